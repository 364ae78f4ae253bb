"""Time-stamps by an authority that answers: openssl behind an HTTP server of this process."""

from __future__ import annotations

import datetime
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("c2pa")
pytest.importorskip("cryptography")
if shutil.which("openssl") is None:
    pytest.skip("needs the program openssl", allow_module_level=True)

from sdcore_watermark.credentials.reading import Manifests, read_manifests
from sdcore_watermark.credentials.signers import pem_signer
from sdcore_watermark.credentials.signing import sign
from sdcore_watermark.credentials.telling import facts

CONFIG = """
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
certs = {folder}/root.pem
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
signer_digest = sha256
ess_cert_id_alg = sha256
ordering = no
tsa_name = no
"""
MANIFEST: dict[str, Any] = {
    "claim_generator_info": [{"name": "sdcore test"}],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {
                "actions": [
                    {
                        "action": "c2pa.created",
                        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
                    }
                ]
            },
        }
    ],
}


def write_authority(folder: Path) -> str:
    """Certificates of an authority; returns its root."""
    from sdcore_watermark.credentials.development import make_chain

    made = make_chain("es256", uses=("1.3.6.1.5.5.7.3.8",))  # timeStamping
    leaf = made.certificates.removesuffix(made.root)
    for name, text in (("tsa.pem", leaf), ("tsa.key", made.key), ("root.pem", made.root), ("serial", "01\n")):
        (folder / name).write_text(text)
    (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder))
    return made.root


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Address and root of a time-stamp authority."""
    root = write_authority(tmp_path)

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (tmp_path / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            command = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply"]
            subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
            reply = (tmp_path / "reply").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", root
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_stamp_tells_the_time(
    authority: tuple[str, str], chain: Callable[[str], Any], picture: Callable[[str], bytes]
) -> None:
    url, root = authority
    made = chain("es256")
    signer = pem_signer(made.certificates, made.key)
    signed = sign(picture("PNG"), "image/png", MANIFEST, signer, None, url, "require")
    assert signed.unstamped == ""
    found = read_manifests(signed.data, "image/png", made.root + root)
    assert isinstance(found, Manifests)
    assert found.verdict == "trusted"
    assert "timeStamp.validated" in found.successes
    assert "timeStamp.trusted" in found.successes
    other = read_manifests(signed.data, "image/png", made.root)  # the signer's root alone
    assert isinstance(other, Manifests)
    assert "no anchor vouches" in dict(facts(other))["signed at"]
    told = datetime.datetime.fromisoformat(dict(facts(found))["signed at"])
    assert abs(datetime.datetime.now(datetime.UTC) - told) < datetime.timedelta(minutes=5)
