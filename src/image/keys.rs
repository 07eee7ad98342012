// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keys of one run: a host key that the guest proves itself with, and a client key that it
//! lets in. Made anew for each run and never written to the host's disk except into the run's
//! initramfs, which goes when the run ends.

use ssh_key::private::KeypairData;
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use super::archive::Archive;
use crate::error::{Error, Result};

/// The keys of one run.
pub struct RunKeys {
    host: PrivateKey,
    client: PrivateKey,
}

impl RunKeys {
    /// Makes new keys.
    pub fn generate() -> Result<Self> {
        let key = || PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(key_error);
        Ok(Self {
            host: key()?,
            client: key()?,
        })
    }

    /// The client's private key in OpenSSH's format.
    pub fn client_private(&self) -> Result<String> {
        Ok(self
            .client
            .to_openssh(LineEnding::LF)
            .map_err(key_error)?
            .to_string())
    }

    /// The guest's public key as it goes over the wire.
    pub fn host_public(&self) -> Result<Vec<u8>> {
        self.host.public_key().to_bytes().map_err(key_error)
    }

    /// The second archive of the initramfs: the keys as dropbear wants them.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        archive.file("etc/dropbear/host_key", 0o600, &self.dropbear_host_key()?)?;
        let authorized = self.client.public_key().to_openssh().map_err(key_error)?;
        archive.file("root/.ssh/authorized_keys", 0o600, authorized.as_bytes())?;
        archive.finish()
    }

    /// dropbear's own format (`src/ed25519.c: buf_put_ed25519_priv_key()`): the algorithm's name,
    /// then seed and public key as one string; strings have a big-endian u32 length in front.
    fn dropbear_host_key(&self) -> Result<Vec<u8>> {
        let KeypairData::Ed25519(pair) = self.host.key_data() else {
            return Err(Error::lab("the host key is not an ed25519 key"));
        };
        let mut data = Vec::new();
        let both = [&pair.private.to_bytes()[..], &pair.public.0[..]].concat();
        for string in [&b"ssh-ed25519"[..], &both] {
            let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
            data.extend_from_slice(&length.to_be_bytes());
            data.extend_from_slice(string);
        }
        Ok(data)
    }
}

fn key_error(error: ssh_key::Error) -> Error {
    Error::lab(format!("cannot make the run's ssh keys: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropbears_key_has_its_documented_length() {
        let keys = RunKeys::generate().unwrap();
        assert_eq!(keys.dropbear_host_key().unwrap().len(), 4 + 11 + 4 + 64);
    }

    #[test]
    fn every_run_has_keys_of_its_own() {
        let public = || RunKeys::generate().unwrap().host_public().unwrap();
        assert_ne!(public(), public());
    }
}
