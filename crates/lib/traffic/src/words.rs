//! The closed sets by which requests are classified.

/// Makes an enum whose values have a word each and a place in an array.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$meaning])* $variant,)+
        }

        impl $name {
            /// All of them, in the order of their places.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its word, in labels and logs.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            pub(crate) const fn place(self) -> usize {
                self as usize
            }
        }
    };
}

words! {
    /// What a request is for.
    TrafficRoute {
        /// Chat completions.
        Chat = "chat",
        /// Completions of a text.
        Completions = "completions",
        /// Responses, as OpenAI's newer API has them.
        Responses = "responses",
        /// Messages, as Anthropic's API has them.
        Messages = "messages",
        /// Embeddings of texts.
        Embeddings = "embeddings",
        /// Documents in the order of their relevance.
        Rerank = "rerank",
        /// Code between two parts.
        Infill = "infill",
        /// Speech to text.
        Audio = "audio",
        /// What takes no slot: tokens, templates, properties.
        Light = "light",
        /// Everything else, the router's own lists included.
        Other = "other",
    }
}

words! {
    /// How a request ended.
    RequestOutcome {
        /// The server answered, and the client got all of it.
        Ok = "ok",
        /// The server answered with a status from 400 to 499.
        ClientError = "client_error",
        /// The server answered with a status from 500 on, or was lost before it answered.
        ServerError = "server_error",
        /// The answer ended with an error after it had begun.
        StreamError = "stream_error",
        /// The client left before the end.
        Cancelled = "cancelled",
        /// The router answered with an error of its own.
        Rejected = "rejected",
    }
}

words! {
    /// What a request waited for before it was sent.
    WaitedFor {
        /// The start of its server.
        Start = "start",
        /// The start of its server, for which others had to stop first.
        Eviction = "eviction",
        /// A slot of its server, which was ready.
        Slot = "slot",
    }
}

words! {
    /// The kinds of tokens. Each token is of one kind.
    TokenKind {
        /// Of a prompt, and read.
        Input = "input",
        /// Of a prompt, and in the cache already.
        Cached = "cached",
        /// Tokens that were generated.
        Output = "output",
    }
}

words! {
    /// Why a request was sent again.
    RetryCause {
        /// The connection was closed before it took the request, or could not be made.
        Connection = "connection",
        /// It was lost before the answer began, and the server still ran.
        Lost = "lost",
        /// The server ended before the answer began.
        Crash = "crash",
    }
}

words! {
    /// Why a ready server was stopped for the router.
    EvictedFor {
        /// The memory of another server.
        Memory = "memory",
        /// `router.max-loaded`.
        Count = "count",
        /// A group of `router.groups`.
        Group = "group",
        /// The sets of `router.combinations`.
        Combination = "combination",
        /// Nobody used it for its `ttl`.
        Idle = "idle",
        /// A client asked for it.
        Unload = "unload",
    }
}

words! {
    /// The end of a connection that is not ours.
    ConnectionSide {
        /// A client.
        Client = "client",
        /// A llama-server.
        Server = "server",
    }
}
