//! llama-warden with a pager: the same command line, the same configuration.

fn main() -> std::process::ExitCode {
    llama_warden::Program::new().with_component(custom_component::Pager::build).main()
}
