//! The commands about data plug-ins: `detector` for packs, `dialect` for dialects.

/// Replaces the macro of the standard library in this crate, so that whatever a terminal gets is filtered.
macro_rules! eprintln {
    ($($text:tt)*) => {
        llama_warden_terminal::output::print_note(format_args!($($text)*))
    };
}

pub mod detector;
pub mod dialect;
