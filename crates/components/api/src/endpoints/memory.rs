//! The memory of the machine, read when it is asked for.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::on;
use http::StatusCode;
use llama_warden_api_types::{ApiProblem, GpuRoom, HostRoom, MachineMemory};
use llama_warden_events::ServerId;
use llama_warden_memory::{Available, Bound, Gpu, Gpus, Reading};
use llama_warden_state::ServerRecord;
use llama_warden_support::blocking;

use crate::app::{App, json};
use crate::problem::ProblemResponse;
use crate::route::{Route, answer, json_body};

pub(super) const MEMORY: Route = Route {
    summary: "The memory of the machine and of its GPUs, and what each running server holds",
    answers: &[answer(200, "The memory now.", &[json_body::<MachineMemory>()])],
    ..Route::get("getMemory", "/api/v1/memory", |method| on(method, memory))
};

async fn memory(State(app): State<App>) -> Result<Response, ProblemResponse> {
    let snapshot = app.bus.snapshot();
    let pid = |(id, server): (&ServerId, &Arc<ServerRecord>)| Some((id.clone(), server.process.as_ref()?.pid));
    let running: Vec<(ServerId, u32)> = snapshot.servers.iter().filter_map(pid).collect();
    let (probe, pids) = (app.memory.clone(), running.iter().map(|(_, pid)| *pid).collect::<Vec<_>>());
    let reading = blocking(move || probe.read(&pids)).await;
    let reading = reading.map_err(|error| ApiProblem::internal(format!("the memory could not be read: {error}")))?;
    Ok(json(StatusCode::OK, &report(reading, running)))
}

fn report(Reading { host, gpus, resident }: Reading, running: Vec<(ServerId, u32)>) -> MachineMemory {
    let host_room = |Available { bytes, total, bound }| HostRoom {
        total_bytes: total,
        available_bytes: bytes,
        cgroup: if let Bound::Cgroup(folder) = bound { Some(folder) } else { None },
    };
    let gpu_room = |Gpu { name, free, total }| GpuRoom { name, total_bytes: total, free_bytes: free };
    MachineMemory {
        host: host.map(host_room),
        gpus: match gpus {
            Gpus::Absent => Some(Vec::new()),
            Gpus::Unmeasured => None,
            Gpus::Measured(gpus) => Some(gpus.into_iter().map(gpu_room).collect()),
        },
        servers: running.into_iter().filter_map(|(id, pid)| Some((id, *resident.get(&pid)?))).collect(),
    }
}
