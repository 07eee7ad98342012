// SPDX-License-Identifier: MIT OR Apache-2.0
//! What steps ask of a guest, as requests to its agent.

use std::time::Duration;

use super::{Guest, module_path};
use crate::klp::kernel_module_name;
use crate::step::{Answer, Operations, Outcome, Silence, Unsettled};

impl Operations for Guest {
    async fn load(
        &self,
        module: &str,
        params: &[(String, String)],
        begins: bool,
    ) -> Answer<Outcome> {
        let params: Vec<_> = params
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let (path, params) = (module_path(module), params.join(" "));
        let hammering = self.hammering().filter(|_| begins);
        let mut args = vec![&*path, &*params];
        args.extend(hammering.as_deref());
        Ok(Outcome(self.ask("load", &args, &[], self.limit).await?.0))
    }

    async fn unload(&self, module: &str) -> Answer<Outcome> {
        let name = kernel_module_name(module);
        Ok(Outcome(
            self.ask("unload", &[&name], &[], self.limit).await?.0,
        ))
    }

    async fn write(&self, path: &str, data: &str) -> Answer<Outcome> {
        Ok(Outcome(
            self.ask("write", &[path, data], &[], self.limit).await?.0,
        ))
    }

    async fn switch(&self, path: &str, data: &str) -> Answer<Outcome> {
        let Some(hammering) = self.hammering() else {
            return self.write(path, data).await;
        };
        let args = [path, data, &*hammering];
        Ok(Outcome(self.ask("switch", &args, &[], self.limit).await?.0))
    }

    async fn read(&self, path: &str) -> Answer<(Outcome, String)> {
        let (errno, data) = self.ask("read", &[path], &[], self.limit).await?;
        Ok((Outcome(errno), data))
    }

    async fn settle(&self, limit: Duration) -> Answer<std::result::Result<(), Unsettled>> {
        let millis = limit.as_millis().to_string();
        let (errno, data) = self
            .ask("settle", &[&millis], &[], limit + self.limit)
            .await?;
        if errno == 0 {
            return Ok(Ok(()));
        }
        let (what, name) = data.split_once('\t').unwrap_or((&data, ""));
        let name = name.to_owned();
        match what {
            "transition" => Ok(Err(Unsettled::Transition(name))),
            "free" => Ok(Err(Unsettled::Free(name))),
            "reference" => Ok(Err(Unsettled::Reference(name))),
            _ => Err(Silence::Nonsense(data.clone())),
        }
    }

    async fn held(&self, function: Option<&str>, limit: Duration) -> Answer<Outcome> {
        let millis = limit.as_millis().to_string();
        let args = [&*millis, function.unwrap_or_default()];
        let reply = self.ask("held", &args, &[], limit + self.limit).await?;
        Ok(Outcome(reply.0))
    }

    async fn stat(&self, path: &str) -> Answer<(Outcome, String)> {
        let (errno, rights) = self.ask("stat", &[path], &[], self.limit).await?;
        Ok((Outcome(errno), rights))
    }

    async fn trace(&self, function: Option<&str>) -> Answer<Outcome> {
        let args = [function.unwrap_or_default()];
        Ok(Outcome(self.ask("trace", &args, &[], self.limit).await?.0))
    }

    async fn spawn(
        &self,
        name: &str,
        hammer: &str,
        count: Option<u32>,
    ) -> Answer<(Outcome, String)> {
        let count = count.unwrap_or(0).to_string();
        let args = [name, hammer, &count];
        let (errno, pids) = self.ask("spawn", &args, &[], self.limit).await?;
        Ok((Outcome(errno), pids))
    }

    async fn kill(&self, name: &str) -> Answer<Outcome> {
        Ok(Outcome(self.ask("kill", &[name], &[], self.limit).await?.0))
    }
}
