"""Who is let in: certificates and roles while they are followed, or the word that nobody is asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service import metrics
from service.access import ANONYMOUS, BadRoles, Policy, parse_roles
from service.addresses import is_local
from service.followed_files import BadFile, FollowedFiles, read_file
from service.security_files import SecurityFiles

if TYPE_CHECKING:
    from service.certificates import Certificates

log = logging.getLogger(__name__)


class Security:
    """What a service with TLS goes by, as new as its files."""

    def __init__(self, files: SecurityFiles) -> None:
        """Read everything; raises `followed_files.BadFile`."""
        from service.certificates import read_certificates

        paths: Sequence[Path] = [path for path in (files.cert, files.key, files.client_ca) if path]
        self.certificates: FollowedFiles[Certificates] = FollowedFiles(
            "certificates", paths, lambda: read_certificates(files)
        )
        self.roles: FollowedFiles[Policy] = FollowedFiles("roles", [files.roles], lambda: read_roles(files.roles))
        if not (files.client_ca or self.roles.current.has_any(ANONYMOUS)):
            raise BadFile(
                "without --tls-client-ca every caller is anonymous, and the roles file grants nothing to them; give "
                f'--tls-client-ca, or add a line like "{ANONYMOUS}" = ["read"] to {files.roles}'
            )


def read_roles(path: Path) -> Policy:
    """Read a roles file. Raises `followed_files.BadFile` with everything that is wrong with it."""
    try:
        return parse_roles(read_file(path, "--roles").decode())
    except UnicodeDecodeError:
        raise BadFile(f"{path} (--roles) is not UTF-8; save it as that") from None
    except BadRoles as error:
        raise BadFile(f"{path} (--roles) {error}") from None


def find_openness(listen: str) -> Sequence[str]:
    """Return what an operator should mend of a service without TLS; nothing where only this machine reaches it."""
    if is_local(listen):
        return ()
    return [
        f"every machine that reaches {listen} may do everything (--insecure-listen); give --tls-cert, --tls-key, "
        "--tls-client-ca and --roles, or listen on 127.0.0.1"
    ]


def tell_openness(listen: str) -> None:
    """Say in the log, and in a metric, that nobody is asked who they are."""
    if is_local(listen):
        log.info("every_caller_has_every_role", extra={"listen": listen, "reason": "no TLS: this machine only"})
        return
    metrics.INSECURE_LISTEN.set(1)
    log.warning(
        "insecure_listen",
        extra={
            "listen": listen,
            "danger": "EVERY MACHINE THAT REACHES THIS PORT MAY READ, CHANGE AND ERASE EVERYTHING",
            "action": "give --tls-cert, --tls-key, --tls-client-ca and --roles, or listen on 127.0.0.1",
        },
    )
