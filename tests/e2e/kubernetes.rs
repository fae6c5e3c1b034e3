//! The Kustomize base and its components, built and validated offline in every combination.

use std::fs;

use llama_warden_tests::{ExternalProgram, ProgramRun, Sandbox, external_program, sandbox};
use serde_json::Value;

use crate::packaging::config;

/// Choices of components: one of each group, or none of it.
const CHOICES: [&[&str]; 6] =
    [&["nvidia", "amd"], &["daemonset"], &["podmonitor"], &["prometheusrule"], &["keda"], &["inferencepool"]];

/// Every combination that makes sense: a pod for each node is not scaled.
fn combinations() -> Vec<Vec<&'static str>> {
    let combine = |combinations: Vec<Vec<&'static str>>, group: &&'static [&'static str]| {
        let chosen = combinations
            .iter()
            .flat_map(|combination| group.iter().map(|one| [combination.as_slice(), &[*one]].concat()));
        let chosen: Vec<_> = chosen.collect();
        [combinations, chosen].concat()
    };
    let all = CHOICES.iter().fold(vec![Vec::new()], combine);
    all.into_iter().filter(|chosen| !(chosen.contains(&"daemonset") && chosen.contains(&"keda"))).collect()
}

/// Builds a combination into a file of the sandbox.
async fn build(sandbox: &Sandbox, kustomize: &std::path::Path, chosen: &[&str]) -> String {
    let name = if chosen.is_empty() { "base".to_owned() } else { chosen.join("-") };
    let folder = sandbox.file(&name);
    fs::create_dir(&folder).expect("written");
    // kustomize wants relative paths, and finds the configuration through a link.
    if !sandbox.file("config").exists() {
        std::os::unix::fs::symlink(config("kubernetes"), sandbox.file("config")).expect("linked");
    }
    let components: String = chosen.iter().map(|one| format!("  - ../config/components/{one}\n")).collect();
    let components = if chosen.is_empty() { String::new() } else { format!("components:\n{components}") };
    fs::write(folder.join("kustomization.yaml"), format!("resources: [../config/base]\n{components}"))
        .expect("written");
    let mut command = sandbox.program(kustomize);
    command.arg("build").arg(&folder);
    let run = ProgramRun::to_end(command).await;
    assert_eq!((run.code(), run.stderr.as_str()), (0, ""), "{name}");
    let file = format!("{name}.yaml");
    fs::write(sandbox.file(&file), run.stdout).expect("written");
    file
}

/// The resources of a file, as JSON.
async fn resources(sandbox: &Sandbox, jsonnet: &std::path::Path, file: &str) -> Vec<Value> {
    let mut command = sandbox.program(jsonnet);
    command.arg("--exec").arg(format!("std.parseYaml(importstr '{file}')"));
    let run = ProgramRun::to_end(command).await.expect(0);
    run.json().as_array().expect("resources").clone()
}

fn of_kind<'a>(resources: &'a [Value], kind: &str) -> Option<&'a Value> {
    resources.iter().find(|resource| resource["kind"] == kind)
}

#[test]
fn every_combination_of_components_builds_and_validates_strictly() {
    let (Some(kustomize), Some(validate)) =
        (external_program(ExternalProgram::Kustomize), external_program(ExternalProgram::KubernetesValidate))
    else {
        return;
    };
    sandbox(async |sandbox| {
        let mut files = Vec::new();
        for chosen in combinations() {
            files.push(build(sandbox, &kustomize, &chosen).await);
        }
        assert_eq!(files.len(), 3 * 3 * 8);
        let mut command = sandbox.program(&validate);
        command.args(["--strict", "--quiet"]).args(&files);
        let run = ProgramRun::to_end(command).await;
        assert_eq!(run.code(), 0, "{}{}", run.stdout, run.stderr);
        // A field that does not exist is found, so that success says something.
        let broken =
            fs::read_to_string(sandbox.file("base.yaml")).expect("built").replace("readinessProbe", "readynessProbe");
        fs::write(sandbox.file("broken.yaml"), broken).expect("written");
        let mut command = sandbox.program(&validate);
        command.args(["--strict", "--quiet", "broken.yaml"]);
        assert_ne!(ProgramRun::to_end(command).await.code(), 0);
    });
}

#[test]
fn resources_of_operators_have_only_fields_of_their_schemas() {
    let (Some(kustomize), Some(jsonnet), Some(models)) = (
        external_program(ExternalProgram::Kustomize),
        external_program(ExternalProgram::Jsonnet),
        external_program(ExternalProgram::KubernetesModels),
    ) else {
        return;
    };
    sandbox(async |sandbox| {
        let file = build(sandbox, &kustomize, &["podmonitor", "prometheusrule", "keda", "inferencepool"]).await;
        let all = resources(sandbox, &jsonnet, &file).await;
        let node = |given: Vec<Value>| {
            let lines: String = given.iter().map(|resource| format!("{resource}\n")).collect();
            fs::write(sandbox.file("resources"), lines).expect("written");
            let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kubernetes/strict.js");
            let folder = models.ancestors().nth(2).expect("a folder").to_owned();
            let mut command = sandbox.program("sh");
            command.args(["-c", "exec node \"$0\" \"$1\" < resources"]).arg(script).arg(folder);
            ProgramRun::to_end(command)
        };
        let kinds = ["PodMonitor", "PrometheusRule", "ScaledObject"];
        let given: Vec<Value> = kinds.iter().map(|kind| of_kind(&all, kind).expect("it is built").clone()).collect();
        let run = node(given.clone()).await;
        assert_eq!((run.code(), run.stdout.as_str()), (0, ""), "{}", run.stderr);
        let mut broken = given;
        broken[0]["spec"]["podMetricsEndpoint"] = Value::Null;
        broken[2]["spec"]["triggers"][0]["metadata"]["threshold"] = 3.into();
        let run = node(broken).await;
        assert!(run.stdout.contains("/spec/podMetricsEndpoint is not in the schema"), "{}", run.stdout);
        assert!(run.stdout.contains("/spec/triggers/0/metadata/threshold"), "{}", run.stdout);
        // No package has the schema of the pool: these are all fields that it has and we use.
        let pool = &of_kind(&all, "InferencePool").expect("it is built")["spec"];
        let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(pool), ["endpointPickerRef", "selector", "targetPorts"]);
        assert_eq!(keys(&pool["endpointPickerRef"]), ["failureMode", "name", "port"]);
        assert!(pool["targetPorts"][0]["number"].is_u64() && pool["selector"]["matchLabels"].is_object());
    });
}

#[test]
fn the_pod_keeps_what_the_readme_promises() {
    let (Some(kustomize), Some(jsonnet)) =
        (external_program(ExternalProgram::Kustomize), external_program(ExternalProgram::Jsonnet))
    else {
        return;
    };
    sandbox(async |sandbox| {
        let file = build(sandbox, &kustomize, &["nvidia"]).await;
        let all = resources(sandbox, &jsonnet, &file).await;
        let map = of_kind(&all, "ConfigMap").expect("it is built");
        assert_eq!(map["metadata"]["name"], "llama-warden", "a suffix would replace the pod at each change");
        let configuration = map["data"]["config.toml"].as_str().expect("a configuration");
        fs::write(sandbox.file("config.toml"), configuration).expect("written");
        let shown = sandbox.run(&sandbox.file("config.toml"), ["config", "show", "--json"]).await.expect(0);
        assert!(shown.stdout.contains("45"), "{}", shown.stdout);
        let deployment = &of_kind(&all, "Deployment").expect("it is built")["spec"];
        let pod = &deployment["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(deployment["strategy"]["type"], "Recreate");
        assert!(pod["terminationGracePeriodSeconds"].as_u64() > Some(45), "above shutdown-deadline");
        let probes =
            ["startupProbe", "livenessProbe", "readinessProbe"].map(|probe| &container[probe]["httpGet"]["path"]);
        assert_eq!(probes, ["/livez", "/livez", "/readyz"]);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "1");
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        assert!(mounts.iter().all(|mount| mount.get("subPath").is_none()), "a subPath is never switched");
    });
}
