//! What a request says: its body, as far as that is needed, and the server that it names.

use llama_warden_held_body::{BodyFacts, BodyReader, HeldBody, ReadUntil};
use llama_warden_http_server::RequestBody;
use llama_warden_targets::{Named, NoServer, RequestClass};

use crate::faults::{Fault, RouteFaultCode};
use crate::refusals::shutting_down;
use crate::request::{Asked, RouterService};

impl RouterService {
    /// Reads a body to its end.
    pub(crate) async fn read(&self, asked: &Asked, body: RequestBody) -> Result<(HeldBody, BodyFacts), Fault> {
        let mut reader = BodyReader::new(body, &asked.parts.headers, &self.shared.limits)?;
        self.read_until(ReadUntil::End, asked, &mut reader).await?;
        Ok(reader.finish())
    }

    pub(crate) fn reader(
        &self,
        asked: &Asked,
        body: RequestBody,
        class: RequestClass,
    ) -> Result<BodyReader<RequestBody>, Fault> {
        let reader = BodyReader::new(body, &asked.parts.headers, &self.shared.limits)?;
        // What only looks at a server wakes none, so that the server may say what it thinks of a body.
        Ok(if class == RequestClass::Inspection { reader } else { reader.strict() })
    }

    /// Reads so much of a body, unless the daemon ends meanwhile.
    pub(crate) async fn read_until(
        &self,
        until: ReadUntil,
        asked: &Asked,
        reader: &mut BodyReader<RequestBody>,
    ) -> Result<(), Fault> {
        tokio::select! {
            // First, since most bodies are there already.
            biased;
            read = reader.read(until) => read?,
            () = self.shared.ending.cancelled() => return Err(shutting_down()),
        }
        asked.tracked.body_read(reader.length(), asked.begun.elapsed());
        Ok(())
    }

    /// The body for a server. What is to be changed has to be there as a whole.
    pub(crate) async fn held(
        &self,
        asked: &Asked,
        named: &Named,
        mut reader: BodyReader<RequestBody>,
    ) -> Result<(HeldBody, BodyFacts), Fault> {
        if !reader.is_at_end() {
            let until = if named.edits() { ReadUntil::End } else { ReadUntil::Begun };
            self.read_until(until, asked, &mut reader).await?;
        }
        Ok(reader.finish())
    }

    /// The server that a name means, where the caller may use it.
    pub(crate) fn named(&self, asked: &Asked, name: Option<&str>) -> Result<Named, Fault> {
        let directory = self.shared.directory();
        let found = directory.find(name);
        if let Ok(named) = found {
            asked.tracked.named(&named.spec.id, name);
        }
        let (code, message) = match found {
            Ok(named) if asked.caller.may_use(named) => return Ok(named.clone()),
            Ok(named) => (
                RouteFaultCode::ModelNotAllowed,
                format!("this key may not use `{}`", name.unwrap_or(named.spec.id.as_str())),
            ),
            Err(NoServer::Missing) => (RouteFaultCode::ModelMissing, "the request names no model".to_owned()),
            Err(NoServer::Unknown(name)) => (RouteFaultCode::ModelNotFound, format!("there is no model `{name}`")),
        };
        let known: Vec<&str> = directory.shown(|named| asked.caller.may_use(named)).collect();
        let known =
            if known.is_empty() { "there is none".to_owned() } else { format!("there are: {}", known.join(", ")) };
        Err(Fault::new(code, format!("{message}; {known}")))
    }
}
