//! The closed sets of reasons. Each value has one spelling, in kebab case, wherever it is seen.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares a closed set whose values have one text each, for serde, `Display` and labels alike.
macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident { $($(#[$value_meta:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        pub enum $name {
            $($(#[$value_meta])* #[serde(rename = $text)] $value,)+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// The value's one spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

closed_set! {
    /// Why a server failed.
    FailureReason {
        /// There is no such executable, or it may not be executed.
        BinaryNotFound = "binary-not-found",
        /// The process could not be made for another reason.
        SpawnFailed = "spawn-failed",
        /// The build does not take an argument, or an option that must not be dropped is not known to it.
        BadArgument = "bad-argument",
        /// The model file does not exist or cannot be opened.
        ModelNotFound = "model-not-found",
        /// The model file is no GGUF, cut off, corrupt, or of a version the build does not read.
        ModelInvalid = "model-invalid",
        /// Memory of the host or the device did not suffice.
        OutOfMemory = "out-of-memory",
        /// Somebody else listens on the port.
        PortInUse = "port-in-use",
        /// What answers on the port is not our child, or not our model.
        IdentityMismatch = "identity-mismatch",
        /// It ended before it was ready, and nothing tells why.
        ExitedBeforeReady = "exited-before-ready",
        /// It was not ready at the cap.
        ReadyTimeout = "ready-timeout",
        /// It showed no sign of life for the stall timeout.
        Stalled = "stalled",
        /// It was ready and ended unasked.
        Crashed = "crashed",
        /// It was ready and no longer answers its health endpoint.
        Unresponsive = "unresponsive",
        /// Its health endpoint answers, its work does not move.
        Wedged = "wedged",
        /// It outlived KILL.
        Unkillable = "unkillable",
        /// It was not launched: there is not enough memory for it, or the launcher did not take it.
        Refused = "refused",
        /// None of the others.
        Unknown = "unknown",
    }
}

impl FailureReason {
    /// Whether the same launch would fail in the same way again, so that only a person can help.
    pub const fn is_permanent(self) -> bool {
        matches!(self, Self::BinaryNotFound | Self::BadArgument | Self::ModelNotFound | Self::ModelInvalid)
    }
}

closed_set! {
    /// What proved that a server is ready.
    ReadyVia {
        /// A ready line on standard error, confirmed as the pack demands.
        Stderr = "stderr",
        /// A ready line on standard output, confirmed as the pack demands.
        Stdout = "stdout",
        /// The probe alone.
        Health = "health",
        /// Nothing: the cap was reached and the policy assumed it.
        Timeout = "timeout",
        /// It was ready when this daemon found it.
        Adopted = "adopted",
    }
}

closed_set! {
    /// Why a command was not accepted.
    RefusalReason {
        /// No server of that name is configured.
        UnknownServer = "unknown-server",
        /// The server is in a phase in which the command makes no sense.
        WrongPhase = "wrong-phase",
        /// The incarnation that was meant is over.
        StaleIncarnation = "stale-incarnation",
        /// No profile of that name is configured.
        UnknownProfile = "unknown-profile",
        /// The configuration cannot be used; what is in force stays.
        InvalidConfiguration = "invalid-configuration",
        /// The daemon is shutting down.
        ShuttingDown = "shutting-down",
        /// The owner's queue is full; the caller may try again.
        QueueFull = "queue-full",
        /// The command's deadline had passed when its owner came to it.
        Expired = "expired",
        /// The owner has ended.
        OwnerGone = "owner-gone",
    }
}

closed_set! {
    /// Why a server is being stopped.
    StopReason {
        /// A person or a program asked for it.
        Requested = "requested",
        /// It is stopped to be started again.
        Restart = "restart",
        /// It failed while its process still ran.
        Failed = "failed",
        /// The configuration or the profile in force no longer wants it, or wants it otherwise.
        Reconfigured = "reconfigured",
        /// The daemon is shutting down.
        Shutdown = "shutdown",
    }
}

closed_set! {
    /// A loss of quality that stops nothing.
    Warning {
        /// An option was not passed, since the build does not list it.
        OptionDropped = "option-dropped",
        /// The build's identity or option list could not be read.
        BinaryUnreadable = "binary-unreadable",
        /// Nothing could tell whether the listener belongs to our child.
        ListenerUnverified = "listener-unverified",
        /// Nothing could tell whether the right model answers.
        ModelUnverified = "model-unverified",
        /// Readiness was assumed at the cap.
        ReadyAssumed = "ready-assumed",
        /// The cap has passed and the server still loads.
        LoadingPastCap = "loading-past-cap",
        /// It was launched although there may not be enough memory for it.
        MemoryShort = "memory-short",
        /// A process outside the server's group outlived it.
        DescendantLeft = "descendant-left",
        /// A command around the server's life failed.
        HookFailed = "hook-failed",
    }
}

closed_set! {
    /// When a command around a server's life is run.
    HookPoint {
        /// Before anything is looked at for a launch, which waits for it and fails with it.
        PreStart = "pre-start",
        /// After ready.
        PostReady = "post-ready",
        /// Before the first signal of a stop, which waits for it for a share of its grace.
        PreStop = "pre-stop",
        /// After the exit.
        PostExit = "post-exit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_one_spelling_in_json_and_in_text() {
        for reason in FailureReason::ALL {
            let json = serde_json::to_string(reason).expect("serializes");
            assert_eq!(json, format!("\"{reason}\""));
        }
    }
}
