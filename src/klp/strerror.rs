// SPDX-License-Identifier: MIT OR Apache-2.0
//! How tools put an errno into words: a script sees no other trace of it.

use super::errno::Errno;

/// glibc's strerror() in the C locale, which `functions.sh` sets.
pub(crate) fn strerror(errno: Errno) -> &'static str {
    match errno.name() {
        "EPERM" => "Operation not permitted",
        "ENOENT" => "No such file or directory",
        "ESRCH" => "No such process",
        "EINTR" => "Interrupted system call",
        "EIO" => "Input/output error",
        "ENXIO" => "No such device or address",
        "E2BIG" => "Argument list too long",
        "ENOEXEC" => "Exec format error",
        "EBADF" => "Bad file descriptor",
        "EAGAIN" => "Resource temporarily unavailable",
        "ENOMEM" => "Cannot allocate memory",
        "EACCES" => "Permission denied",
        "EFAULT" => "Bad address",
        "EBUSY" => "Device or resource busy",
        "EEXIST" => "File exists",
        "ENODEV" => "No such device",
        "ENOTDIR" => "Not a directory",
        "EISDIR" => "Is a directory",
        "EINVAL" => "Invalid argument",
        "ETXTBSY" => "Text file busy",
        "EFBIG" => "File too large",
        "ENOSPC" => "No space left on device",
        "EROFS" => "Read-only file system",
        "EDOM" => "Numerical argument out of domain",
        "ERANGE" => "Numerical result out of range",
        "EDEADLK" => "Resource deadlock avoided",
        "ENAMETOOLONG" => "File name too long",
        "ENOSYS" => "Function not implemented",
        "ELOOP" => "Too many levels of symbolic links",
        "ENODATA" => "No data available",
        "ETIME" => "Timer expired",
        "EBADMSG" => "Bad message",
        "EOVERFLOW" => "Value too large for defined data type",
        "EILSEQ" => "Invalid or incomplete multibyte or wide character",
        "EOPNOTSUPP" => "Operation not supported",
        "ETIMEDOUT" => "Connection timed out",
        "EALREADY" => "Operation already in progress",
        "ECANCELED" => "Operation canceled",
        "ENOKEY" => "Required key not available",
        "EKEYREJECTED" => "Key was rejected by service",
        _ => unreachable!("a test holds this list against the errnos of scenarios"),
    }
}

/// What kmod's insmod says: of some errnos, what they mean for a module.
pub(crate) fn insmod(errno: Errno) -> &'static str {
    match errno.name() {
        "ENOEXEC" => "Invalid module format",
        "ENOENT" => "Unknown symbol in module",
        "ESRCH" => "Module has wrong symbol version",
        "EINVAL" => "Invalid parameters",
        _ => strerror(errno),
    }
}

/// The errno that a tool's words mean, of a tool that loads modules or of another one.
pub(crate) fn errno_of(words: &str, of_module: bool) -> Option<Errno> {
    let all = || Errno::NAMES.into_iter().filter_map(Errno::from_name);
    let means = |errno: &Errno| match of_module {
        true => insmod(*errno) == words,
        false => strerror(*errno) == words,
    };
    all().find(means)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_c_library() {
        for name in Errno::NAMES {
            let errno = Errno::from_name(name).unwrap();
            let library = std::io::Error::from_raw_os_error(errno.number()).to_string();
            let words = strerror(errno);
            assert_eq!(library, format!("{words} (os error {})", errno.number()));
        }
    }
}
