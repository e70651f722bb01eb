"""The certificate of the public port, read again when its files change."""

import logging
import ssl
from collections.abc import Iterable

from shim.errors import StartError
from shim.followed_files import FollowedFiles
from shim.health import Readiness, Reason
from shim.settings import CertificateFiles

_log = logging.getLogger(__name__)


class Certificate:
    """A certificate in use. The one before stays in use as long as the files can't be used."""

    def __init__(self, files: CertificateFiles) -> None:
        """Read the files. Raises `StartError` when they can't be used."""
        self._files = files
        self._followed = FollowedFiles((files.certificate, files.key))
        self._fault = ""
        try:
            self._context = _read(files)
        except OSError as error:
            raise StartError(_explain(files, error)) from error

    def get_context(self) -> ssl.SSLContext:
        """Return what a new connection is to use."""
        return self._context

    async def follow(self) -> None:
        """Read the files again whenever they have changed; for ever."""
        async for _ in self._followed.changes():
            self._read_again()

    def find_reasons(self) -> Iterable[Reason]:
        """Return what is wrong with the files."""
        if self._fault:
            yield Reason(Readiness.DEGRADED, "certificate_refused", f"{self._fault} The one before stays in use.")

    def _read_again(self) -> None:
        # A context of its own each time: one that failed half-way serves nobody.
        try:
            self._context = _read(self._files)
        except OSError as error:
            self._fault = _explain(self._files, error)
            _log.error("certificate_refused", extra={"reason": self._fault})
        else:
            self._fault = ""
            _log.info("certificate_reloaded", extra={"file": str(self._files.certificate)})


def _read(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    # A pass phrase, or OpenSSL would ask for one at the terminal.
    context.load_cert_chain(files.certificate, files.key, password="")
    return context


def _explain(files: CertificateFiles, error: OSError) -> str:
    why = f"{error.strerror}; make both readable"
    if isinstance(error, ssl.SSLError):
        why = f"{error.reason or 'no PEM'}; give a chain and the key of its first certificate, without a pass phrase"
    return f"can't use {files.certificate} (--tls-cert) with {files.key} (--tls-key): {why}."
