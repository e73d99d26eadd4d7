"""The peers, each installed into an environment of its own, at the versions that the results name."""

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Peer:
    """A tool to be compared with.

    Attributes:
        name: its environment's.
        version: stands in the results.
        requirements: what pip installs; what the tool itself forgets to ask for is named too.
        setting: how it is run, in a few words.
    """

    name: str
    version: str
    requirements: tuple[str, ...]
    setting: str


PEERS = {
    peer.name: peer
    for peer in (
        Peer("rensa", "0.5.0", ("rensa==0.5.0",), "a script on its LSH, signature check only"),
        Peer("text-dedup", "0.4.0", ("text-dedup==0.4.0",), "2 processes"),
        Peer("data-juicer", "1.6.1", ("py-data-juicer==1.6.1", "aiohttp==3.14.5"), "np 2"),
        Peer("datatrove", "0.10.1", ("datatrove[io,processing]==0.10.1", "spacy==3.8.18"), "2 workers"),
    )
}
TRL = Peer("trl", "1.16.0", ("trl==1.16.0", "torch==2.13.0", "transformers==5.23.0"), "see `benchmarks/train.py`")
NOT_RUN = {
    "NeMo Curator": "its fuzzy deduplication runs on NVIDIA GPUs alone (cuDF, RAPIDS-MPF), and this machine has none"
}


def install(peer: Peer, cache: Path) -> Path:
    """The interpreter of a peer's environment, made if it is not there.

    Raises:
        CalledProcessError: pip could not install it.
    """
    folder = cache / "env" / peer.name
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(peer.requirements) + "\n"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {peer.name} {peer.version} into an environment of its own (once)", file=sys.stderr)
        if not python.exists():
            venv.create(folder, with_pip=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, *peer.requirements], check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return python
