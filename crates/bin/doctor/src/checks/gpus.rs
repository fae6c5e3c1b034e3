//! The GPUs, and whether this user may use them.

use std::path::Path;

use llama_warden_config::{FlagOrigin, FlagValue, Fleet, ServerSpec};
use llama_warden_memory::{Bytes, Gpus};
use nix::unistd::{AccessFlags, access};

use crate::finding::{Area, Finding};

/// The spellings of the option that places layers on a GPU.
const GPU_LAYERS: [&str; 3] = ["n-gpu-layers", "gpu-layers", "ngl"];

/// The device files that a program opens to use a GPU: NVIDIA's, AMD's, and those of Vulkan.
const DEVICES: [&str; 4] = ["/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dri/renderD128"];

pub(crate) fn look(fleet: &Fleet, gpus: Gpus) -> Vec<Finding> {
    let mut findings = Vec::new();
    for device in DEVICES.map(Path::new) {
        if device.exists() && access(device, AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
            findings.push(Area::Gpu.fault(
                format!("this user may not open {}, so that llama-server runs without that GPU", device.display()),
                "add the user to the group of the file (`ls -l` shows it, usually `render` or `video`) and log in again",
            ));
        }
    }
    match gpus {
        Gpus::Measured(gpus) => findings.extend(
            gpus.iter().map(|gpu| Area::Gpu.good(format!("{}: {} are free", gpu.name, Bytes(gpu.free)))),
        ),
        Gpus::Unmeasured => {
            findings.push(Area::Gpu.good("there is one whose memory cannot be measured; servers are not kept from it"));
        }
        Gpus::Absent => match fleet.iter().find(|spec| wants_gpu(spec)) {
            Some(spec) => findings.push(Area::Gpu.warning(
                format!("`{}` asks for layers on a GPU, and no GPU is seen", spec.id),
                "install the driver; in a container, pass the device (`--gpus all`, or `--device /dev/kfd --device /dev/dri`)",
            )),
            None => findings.push(Area::Gpu.good("there is none, and no server asks for one")),
        },
    }
    findings
}

/// Whether somebody wrote that layers are to be on a GPU; the defaults say so for every machine.
fn wants_gpu(spec: &ServerSpec) -> bool {
    let written =
        GPU_LAYERS.iter().filter_map(|name| spec.flags.get(*name)).filter(|flag| flag.origin == FlagOrigin::User);
    written.map(|flag| &flag.value).any(|value| match value {
        FlagValue::Integer(layers) => *layers > 0,
        FlagValue::Text(layers) => layers == "all",
        _ => false,
    })
}
