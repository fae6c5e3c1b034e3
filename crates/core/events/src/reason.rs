//! The closed sets of reasons. Each value has one spelling, in kebab case, in JSON, logs, metrics and text.

/// Declares a closed set whose values have one text each, for serde, `Display` and labels alike.
#[macro_export]
macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident { $($(#[$value_meta:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum $name {
            $($(#[$value_meta])* #[serde(rename = $text)] $value,)+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: [Self; [$(Self::$value),+].len()] = [$(Self::$value),+];

            /// The value's one spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

closed_set! {
    /// Why a server failed.
    FailureReason {
        /// The executable does not exist or is not executable.
        BinaryNotFound = "binary-not-found",
        /// The executable cannot run here: a library, its interpreter, its loader, or code for this CPU or GPU is missing.
        BinaryBroken = "binary-broken",
        /// The kernel refused to create the process for another reason.
        SpawnFailed = "spawn-failed",
        /// The build rejects an argument, or does not know an option that must not be dropped.
        BadArgument = "bad-argument",
        /// Another file that a setting names, such as the key file, does not exist or cannot be opened.
        FileNotFound = "file-not-found",
        /// The model file does not exist or cannot be opened.
        ModelNotFound = "model-not-found",
        /// The model file is not GGUF, truncated, corrupt, or of a version that the build does not read.
        ModelInvalid = "model-invalid",
        /// The host or the device has too little memory.
        OutOfMemory = "out-of-memory",
        /// Its host is no address of this machine at present: no interface has it, or its name does not resolve, or the
        /// folder of its socket does not exist.
        AddressUnavailable = "address-unavailable",
        /// Another process listens on the port.
        PortInUse = "port-in-use",
        /// The process that answers on the port is not our child, or serves another model.
        IdentityMismatch = "identity-mismatch",
        /// The process ended before it was ready, for an unknown reason.
        ExitedBeforeReady = "exited-before-ready",
        /// It was not ready when `readiness.timeout` was over.
        ReadyTimeout = "ready-timeout",
        /// It showed no sign of life for the stall timeout.
        Stalled = "stalled",
        /// It was ready and ended with code 0 although no stop was requested.
        Ended = "ended",
        /// It was ready and ended in another way although no stop was requested.
        Crashed = "crashed",
        /// It was ready and no longer answers its health endpoint.
        Unresponsive = "unresponsive",
        /// Its health endpoint answers, but its requests make no progress.
        Wedged = "wedged",
        /// Its process outlived KILL.
        Unkillable = "unkillable",
        /// It was not launched: memory is short, or the launcher refused the command.
        Refused = "refused",
        /// None of the others.
        Unknown = "unknown",
    }
}

impl FailureReason {
    /// Whether another launch would fail in the same way until a person changes something.
    pub const fn is_permanent(self) -> bool {
        matches!(self, Self::BinaryBroken | Self::BadArgument | Self::ModelInvalid)
    }

    /// What is missing at present and may appear without a change of the configuration; `None` for any other failure.
    pub const fn awaited(self) -> Option<&'static str> {
        Some(match self {
            Self::BinaryNotFound => "its executable",
            Self::FileNotFound => "a file",
            Self::ModelNotFound => "its model",
            Self::AddressUnavailable => "its address",
            Self::Refused => "memory",
            _ => return None,
        })
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
        /// No proof: the timeout was reached and the policy assumes readiness.
        Timeout = "timeout",
        /// It was ready when this daemon adopted it.
        Adopted = "adopted",
    }
}

closed_set! {
    /// Why a command was not accepted.
    RefusalReason {
        /// No server of that name is configured.
        UnknownServer = "unknown-server",
        /// The command does not apply in the server's phase.
        WrongPhase = "wrong-phase",
        /// The launch that the command names is over.
        StaleIncarnation = "stale-incarnation",
        /// No profile of that name is configured.
        UnknownProfile = "unknown-profile",
        /// The configuration is invalid; the one in force stays.
        InvalidConfiguration = "invalid-configuration",
        /// The configuration looks half written; the one in force stays unless the reload is forced.
        DoubtfulConfiguration = "doubtful-configuration",
        /// The configuration is no file that can be read again.
        NotReloadable = "not-reloadable",
        /// The daemon is shutting down.
        ShuttingDown = "shutting-down",
        /// A person had the server stopped: only a person starts it again.
        StoppedByHand = "stopped-by-hand",
        /// The restart policy gave the server up, or has none: requests do not start it for a while, or at all where the failure is
        /// permanent.
        GivenUp = "given-up",
        /// The memory does not suffice for the server, and nothing is left that could make room for it.
        NoMemory = "no-memory",
        /// The rules of `[router]` leave no room for the server beside what may not be stopped for it.
        NoRoom = "no-room",
        /// Requests start no servers: `router.on-demand` is false.
        NotOnDemand = "not-on-demand",
        /// Requests are in flight.
        InUse = "in-use",
        /// The owner's queue is full; the caller may try again.
        QueueFull = "queue-full",
        /// The command's deadline passed before its owner received it.
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
        /// A change of configuration or profile removes it or changes its command line.
        Reconfigured = "reconfigured",
        /// The daemon is shutting down.
        Shutdown = "shutdown",
        /// Nobody used it for its `ttl`.
        Idle = "idle",
        /// Another server needs its room.
        Evicted = "evicted",
        /// A person or a program asked for it, and a request may start it again.
        Unloaded = "unloaded",
    }
}

impl StopReason {
    /// Whether the server comes back by itself once somebody wants it, and is not missed before.
    pub const fn unloads(self) -> bool {
        matches!(self, Self::Idle | Self::Evicted | Self::Unloaded)
    }
}

closed_set! {
    /// What a server has no room in, so that others are evicted for it.
    EvictionCause {
        /// The memory of the machine.
        Memory = "memory",
        /// `router.max-loaded`.
        Count = "count",
        /// A group of `router.groups`.
        Group = "group",
        /// The sets of `router.combinations`.
        Combination = "combination",
    }
}

closed_set! {
    /// Something that works worse than configured, but goes on.
    Warning {
        /// An option was not passed because the build does not list it.
        OptionDropped = "option-dropped",
        /// The build's identity or option list could not be read.
        BinaryUnreadable = "binary-unreadable",
        /// A setting is valid and probably not as meant.
        DoubtfulSetting = "doubtful-setting",
        /// It could not be determined whether the listener belongs to our child.
        ListenerUnverified = "listener-unverified",
        /// It could not be determined whether the right model answers.
        ModelUnverified = "model-unverified",
        /// Readiness was assumed when the timeout was over.
        ReadyAssumed = "ready-assumed",
        /// The timeout is over and the server still loads.
        LoadingPastCap = "loading-past-cap",
        /// It was launched although memory may be short.
        MemoryShort = "memory-short",
        /// A process outside the server's group outlived it.
        DescendantLeft = "descendant-left",
        /// A hook failed.
        HookFailed = "hook-failed",
        /// A variable of the daemon's environment that the build reads is not passed to its servers.
        VariableDropped = "variable-dropped",
    }
}

closed_set! {
    /// When a hook runs.
    HookPoint {
        /// Before the checks of a launch, which waits for the hook and fails with it.
        PreStart = "pre-start",
        /// After the server became ready.
        PostReady = "post-ready",
        /// Before the first signal of a stop, which waits for the hook for a share of the grace.
        PreStop = "pre-stop",
        /// After the process exited.
        PostExit = "post-exit",
    }
}

closed_set! {
    /// The outcome of a process, as the metrics count it.
    ExitOutcome {
        /// It was asked to end and did.
        Stopped = "stopped",
        /// It was asked to end, and KILL was needed.
        Killed = "killed",
        /// It was ready and ended unasked with code 0.
        Ended = "ended",
        /// Deprecated, and always 0: `ended` says it.
        Exited = "exited",
        /// It was ready and ended unasked in another way.
        Crashed = "crashed",
        /// It ended before it was ready.
        Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_one_spelling_in_json_and_in_text() {
        for reason in FailureReason::ALL {
            let json = serde_json::to_string(&reason).expect("serializes");
            assert_eq!(json, format!("\"{reason}\""));
        }
    }
}
