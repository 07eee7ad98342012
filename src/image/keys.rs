// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keys of one guest: a host key that it proves itself with, and a client key that it lets in.
//! Made anew for each; the guest's init takes them from its console (`images/guest/init.c`). They are
//! not written to the host's disk, but for those of a guest that waits for visitors
//! (`guest/entrance.rs`).

use ssh_key::private::KeypairData;
use ssh_key::rand_core::{OsRng, RngCore};
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use crate::cache::hex;
use crate::error::{Error, Result};

/// Bytes of entropy that a guest is given.
const ENTROPY: usize = 32;

/// The keys of one guest.
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

    /// The same, in OpenSSH's format.
    pub fn host_public_text(&self) -> Result<String> {
        self.host.public_key().to_openssh().map_err(key_error)
    }

    /// What makes a guest another one than its siblings, in a line for its init: the time, fresh
    /// entropy, the host key as dropbear wants it, and who may log in.
    pub fn identity(&self) -> Result<String> {
        let now = std::time::SystemTime::now();
        let now = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let mut entropy = [0; ENTROPY];
        OsRng.fill_bytes(&mut entropy);
        let authorized = self.client.public_key().to_openssh().map_err(key_error)?;
        Ok(format!(
            "lab-identity {}.{:09} {} {} {authorized}\n",
            now.as_secs(),
            now.subsec_nanos(),
            hex(&entropy),
            hex(&self.dropbear_host_key()?),
        ))
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
    fn an_identity_is_one_line_that_a_terminal_takes_at_once() {
        let line = RunKeys::generate().unwrap().identity().unwrap();
        assert!(line.ends_with('\n') && line.lines().count() == 1);
        // `N_TTY_BUF_SIZE` of the kernel.
        assert!(line.len() < 4096);
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[0], "lab-identity");
        assert_eq!((words[2].len(), words[3].len()), (2 * ENTROPY, 2 * 83));
        assert_eq!(words[4], "ssh-ed25519");
    }

    #[test]
    fn every_run_has_keys_of_its_own() {
        let public = || RunKeys::generate().unwrap().host_public().unwrap();
        assert_ne!(public(), public());
    }
}
