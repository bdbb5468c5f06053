"""`perturb ledger`: look at a log, publish it, fold it anew, prove a leaf, witness another's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perturbnet.commands.given import read_settings
from perturbnet.commands.ledger_inputs import (
    log_source,
    noted_anchors,
    old_enough,
    open_journal,
    read_note,
    witness_key,
)
from perturbnet.commands.printing import JSON_HELP, print_facts
from perturbnet.display.bars import ProgressBar, open_bar

if TYPE_CHECKING:
    from perturbnet.config import Settings
    from perturbnet.ledger import LedgerState
    from perturbnet.transparency.anchors import Anchor


@click.group()
def ledger() -> None:
    """The validator's log: signed, append-only, public.

    \b
    perturb ledger show [BUNDLE]        size, root, key; of this machine's log or of a published one
    perturb ledger replay [BUNDLE]      fold every leaf anew and compare with the state that was kept
    perturb ledger publish PLACE        write what is old enough into a folder, or into s3://BUCKET/PREFIX
    perturb ledger prove LEAF BUNDLE    a leaf's inclusion as a .tlog-proof file
    perturb ledger witness BUNDLE       check another validator's log against what was seen, and cosign it

    BUNDLE is a folder or an http(s) address. This machine's log is the one in PERTURB_STATE_DIR. A validator
    that runs on it publishes by itself (PERTURB_PUBLISH_TO); stop it before these commands open the log.
    """


@ledger.command()
@click.argument("bundle", required=False)
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def show(bundle: str | None, json_file: str | None) -> None:
    """Print a log's name, owner, key, size, root and anchors."""
    print_facts(_bundle_facts(bundle) if bundle else _local_facts(read_settings()), json_file)


@ledger.command()
@click.argument("bundle", required=False)
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def replay(bundle: str | None, json_file: str | None) -> None:
    """Fold every leaf anew; exit code 3 when a leaf cannot follow or the kept state is another.

    Of this machine's log every byte is hashed first. The digest names the state: who folds the same leaves
    gets the same one.
    """
    from perturbnet.ledger.snapshots import describe_state
    from perturbnet.wire import canonical_json

    with open_bar("leaves") as progress:
        state, compared = (
            _replay_bundle(bundle, progress) if bundle else _replay_local(read_settings(), progress)
        )
    facts: dict[str, Any] = {
        "leaves": state.size,
        "rounds": state.rounds,
        "counted rounds": state.counted_rounds,
        "miners": len(state.miners),
        "state": canonical_json.digest(describe_state(state)),
        "compared": compared,
    }
    print_facts(facts, json_file)


@ledger.command()
@click.argument("place")
@click.option("--size", type=click.IntRange(1), help="Publish so many leaves, whatever their age.")
@click.option("--all", "everything", is_flag=True, help="Publish all leaves, whatever their age.")
@click.option(
    "--cosigned",
    type=click.Path(path_type=Path),
    help="Add a witness's lines to the checkpoint: what `perturb ledger witness` wrote.",
)
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def publish(
    *, place: str, size: int | None, everything: bool, cosigned: Path | None, json_file: str | None
) -> None:
    """Publish this machine's log into PLACE: blobs, leaves, tiles, checkpoint last.

    PLACE is a folder, or s3://BUCKET/PREFIX of any store that speaks S3: its key, region and endpoint are in
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL.

    Without --size or --all the chain is asked for its block, and leaves younger than
    PERTURB_PUBLISH_DELAY_BLOCKS stay behind. PLACE never shrinks, and is refused when it holds another log.
    """
    from perturbnet.errors import LedgerError
    from perturbnet.transparency import publishing
    from perturbnet.transparency.places import open_target

    settings = read_settings()
    with open_journal(settings) as journal, open_bar("files") as progress:
        source, target = log_source(journal, settings), open_target(place)
        if size is None:
            size = journal.state.size if everything else old_enough(settings, journal)
        if size == 0:
            raise LedgerError("no leaf is old enough to be published yet", hint="later; or --size, or --all")
        anchors = noted_anchors(journal)
        found = publishing.publish(
            source, target, min(size, journal.state.size), anchors=anchors, progress=progress
        )
        if cosigned is not None:
            publishing.add_cosignatures(source, target, read_note(cosigned))
    facts = {"origin": found.origin, "published": found.size, "root": found.root.hex(), "place": str(target)}
    print_facts(facts, json_file)


@ledger.command()
@click.argument("leaf", type=click.IntRange(0))
@click.argument("bundle")
@click.option("--out", type=click.Path(path_type=Path), help="File to write  [default: LEAF.tlog-proof]")
def prove(leaf: int, bundle: str, out: Path | None) -> None:
    """Write the proof that a leaf stands in a published log; it needs no network to be checked."""
    from perturbnet.runtime.artifacts import write_durably
    from perturbnet.transparency.bundle import open_bundle
    from perturbnet.transparency.proofs import SUFFIX

    with open_bundle(bundle) as opened:
        opened.verify_signature()
        data, path = opened.proof(leaf).encode(), out or Path(f"{leaf}{SUFFIX}")
        write_durably(path, data)
        click.echo(f"{path}: leaf {leaf} ({opened.entry(leaf).leaf.kind}) of {opened.checkpoint.origin}")


@ledger.command()
@click.argument("bundle")
@click.option("--hotkey", help="The validator whose log it must be, ss58  [default: whoever it names]")
@click.option("--out", type=click.Path(path_type=Path), help="File for the cosigned checkpoint.")
@click.option("--json", "json_file", metavar="FILE", help=JSON_HELP)
def witness(bundle: str, hotkey: str | None, out: Path | None, json_file: str | None) -> None:
    """Check a published log against what this machine saw of it before, and cosign its checkpoint.

    Signs with this machine's own log key, under its own log's name. A log that contradicts what was seen is
    not cosigned: exit code 3, and the two checkpoints are kept as a proof: perturb audit fraud FILE.
    """
    from perturbnet.runtime.artifacts import write_durably
    from perturbnet.runtime.clock import SystemClock
    from perturbnet.transparency.bundle import open_bundle
    from perturbnet.transparency.delegation import check_owner
    from perturbnet.transparency.witnessing import WITNESS_FOLDER, Witness

    settings = read_settings()
    key = witness_key(settings)
    with open_bundle(bundle) as opened:
        authority = opened.verify_signature()
        if hotkey is not None:
            check_owner(authority, hotkey=hotkey, netuid=authority.netuid)
        seen = Witness(settings.state_dir / WITNESS_FOLDER, key, SystemClock())
        note = seen.witness_bundle(opened)
        path = out or seen.note_path(authority.origin)
        if out is not None:
            write_durably(out, note.encode())
        facts = {
            "origin": authority.origin,
            "hotkey": authority.hotkey,
            "cosigned": opened.size,
            "by": key.name,
            "note": str(path),
        }
    print_facts(facts, json_file)


@ledger.command("rotate-key")
def rotate() -> None:
    """Give this machine's log a new key: after a theft, or when the old one is lost.

    The hotkey of WALLET_NAME and WALLET_HOTKEY signs for it, and so does the old key where it is still there.
    """
    from perturbnet.runtime.wallets import load_hotkey
    from perturbnet.transparency.signing import rotate_key

    settings = read_settings()
    keypair = load_hotkey(
        settings.wallet_path, settings.wallet_name, settings.wallet_hotkey, file=settings.hotkey_file
    )
    with open_journal(settings) as journal:
        key = rotate_key(journal, settings.state_dir, keypair)
    where = f"from leaf {journal.state.size - 1} on"
    click.echo(f"The log {key.name} is signed {where} with {key.verifier().encode()}")


def _local_facts(settings: Settings) -> dict[str, Any]:
    from perturbnet.transparency.signing import read_owner

    with open_journal(settings) as journal:
        authority = read_owner(journal)
        return {
            "origin": authority.origin,
            "hotkey": authority.hotkey,
            "key": authority.key.encode(),
            "leaves": journal.state.size,
            "root": journal.store.root().hex(),
            "rounds": journal.state.rounds,
            "anchors": _anchor_facts(noted_anchors(journal)),
        }


def _bundle_facts(place: str) -> dict[str, Any]:
    from perturbnet.transparency.bundle import open_bundle

    with open_bundle(place) as bundle:
        authority = bundle.verify_signature()
        return {
            "origin": authority.origin,
            "hotkey": authority.hotkey,
            "key": authority.key.encode(),
            "leaves": bundle.size,
            "root": bundle.checkpoint.root.hex(),
            "signed by": [line.name for line in bundle.signed.signatures],
            "anchors": _anchor_facts(bundle.anchors),
        }


def _anchor_facts(anchors: list[Anchor]) -> str:
    if not anchors:
        return "none"
    newest = anchors[-1]
    return f"{len(anchors)}, the newest of {newest.size} leaves at block {newest.block}"


def _replay_bundle(place: str, progress: ProgressBar) -> tuple[LedgerState, str]:
    from perturbnet.ledger import LedgerState
    from perturbnet.transparency.bundle import open_bundle

    with open_bundle(place) as bundle:
        bundle.verify_signature()
        state = LedgerState()
        for entry in bundle.entries():
            state.apply(entry)
            progress(state.size, bundle.size)
    return state, "with nothing: a published log holds no state"


def _replay_local(settings: Settings, progress: ProgressBar) -> tuple[LedgerState, str]:
    from perturbnet.errors import LedgerCorrupt
    from perturbnet.ledger import LedgerState

    with open_journal(settings) as journal:
        state = LedgerState()
        for entry in journal.store.entries():
            state.apply(entry)
            progress(state.size, journal.store.size)
        if state != journal.state:
            raise LedgerCorrupt("the state that was kept is not what the leaves say", hint="remove fold.json")
    return state, "with the state that was kept: the same"
