//! The memory of the machine, read when it is asked for.

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::StatusCode;
use llama_warden_api_types::{ApiProblem, GpuRoom, HostRoom, MemoryReport};
use llama_warden_events::ServerId;
use llama_warden_memory::{Available, Bound, Gpu, Gpus, Reading};
use llama_warden_support::blocking;

use crate::app::{App, json};
use crate::problem::ProblemResponse;
use crate::route::{Route, answer, json_body};

pub(super) const MEMORY: Route = Route {
    summary: "The memory of the machine and of its GPUs, and what each running server holds",
    answers: &[answer(200, "The memory now.", &[json_body::<MemoryReport>()])],
    ..Route::get("getMemory", "/api/v1/memory", |method| on(method, memory))
};

async fn memory(State(app): State<App>) -> Result<Response, ProblemResponse> {
    let snapshot = app.bus.snapshot();
    let running: Vec<(ServerId, u32)> =
        snapshot.servers.iter().filter_map(|(id, server)| Some((id.clone(), server.process.as_ref()?.pid))).collect();
    let (probe, pids) = (app.memory.clone(), running.iter().map(|(_, pid)| *pid).collect::<Vec<_>>());
    let reading = blocking(move || probe.read(&pids)).await;
    let reading = reading.map_err(|error| ApiProblem::internal(format!("the memory could not be read: {error}")))?;
    Ok(json(StatusCode::OK, &report(reading, running)))
}

fn report(reading: Reading, running: Vec<(ServerId, u32)>) -> MemoryReport {
    let Reading { host, gpus, resident } = reading;
    MemoryReport {
        host: host.map(|Available { bytes, total, bound }| HostRoom {
            total_bytes: total,
            available_bytes: bytes,
            cgroup: match bound {
                Bound::Machine => None,
                Bound::Cgroup(folder) => Some(folder),
            },
        }),
        gpus: match gpus {
            Gpus::Absent => Some(Vec::new()),
            Gpus::Unmeasured => None,
            Gpus::Measured(gpus) => Some(gpus.into_iter().map(gpu_room).collect()),
        },
        servers: running.into_iter().filter_map(|(id, pid)| Some((id, *resident.get(&pid)?))).collect(),
    }
}

fn gpu_room(gpu: Gpu) -> GpuRoom {
    let Gpu { name, free, total } = gpu;
    GpuRoom { name, total_bytes: total, free_bytes: free }
}
