"""``tta-bench push``: publish runs as a data set on a hub, or write what would be published to a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from tta_bench.commands.find import size_of
from tta_bench.commands.say import say
from tta_bench.integrations.dataset_card import card
from tta_bench.integrations.dataset_folder import Published, published, write_data
from tta_bench.runner.disk import storing

USAGE = "tta-bench push OWNER/NAME [DIR] [--to FOLDER] [--traces] [--licence ID] [--public] [--yes]"

LICENCE = "cc-by-4.0"

FAILED = 1


class Words(argparse.ArgumentParser):
    """The words of the command; what is wrong with them is a ValueError."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"push: {message}; usage: {USAGE}")


def understood(words: Sequence[str]) -> argparse.Namespace:
    """What the words mean.

    Raises:
        ValueError: there are too few, too many or unknown ones, or the repository has no such name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    parser = Words(prog="tta-bench push", add_help=False, allow_abbrev=False)
    parser.add_argument("repo")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs"))
    parser.add_argument("--to", type=Path)
    parser.add_argument("--licence", default=LICENCE)
    for option in ("--traces", "--public", "--yes"):
        parser.add_argument(option, action="store_true")
    asked = parser.parse_args(list(words))
    try:
        validate_repo_id(asked.repo)
    except HFValidationError as error:
        raise ValueError(f"push: {asked.repo!r} is no name of a repository, as OWNER/NAME: {error}") from error
    if "/" not in asked.repo:
        raise ValueError(f"push: {asked.repo!r} names no owner; usage: {USAGE}")
    return asked


def main(words: Sequence[str], console: Console) -> int:
    """Write the data set, say what it is, ask, upload; returns the exit code.

    Raises:
        ValueError: the words or the folder are not as they must be.
        StoreError: it cannot be written.
    """
    asked = understood(words)
    found = published(asked.folder)
    if asked.to:
        if asked.to.exists() and (not asked.to.is_dir() or any(asked.to.iterdir())):
            raise ValueError(f"--to {asked.to}: is not empty; name a folder that is, or is not there yet")
        write(found, asked.to, asked)
        describe(found, asked.to, asked, console)
        say(console, f"written to {asked.to}, as it would be uploaded; nothing was")
        return 0
    with TemporaryDirectory(prefix="tta_bench-push-") as temporary:
        folder = Path(temporary)
        write(found, folder, asked)
        describe(found, folder, asked, console)
        return upload(folder, asked, console) if asked.yes or agreed(asked, console) else FAILED


def write(found: Published, folder: Path, asked: argparse.Namespace) -> None:
    """The data set with its card."""
    write_data(found, folder, traces=asked.traces)
    with storing(folder):
        (folder / "README.md").write_text(card(found, folder, repo=asked.repo, licence=asked.licence))


def describe(found: Published, folder: Path, asked: argparse.Namespace, console: Console) -> None:
    """What is published: every file but those of single runs, which are counted."""
    seen = "public" if asked.public else "private"
    say(console, f"{asked.repo}: a {seen} data set of {len(found.runs)} run(s), licence {asked.licence}")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for file in [folder / "README.md", *sorted((folder / "data").iterdir())]:
        table.add_row(str(file.relative_to(folder)), decimal(size_of(file)))
    settings = list((folder / "runs").rglob("*.*"))
    table.add_row(f"runs/: {len(settings)} files", decimal(sum(map(size_of, settings))))
    table.add_row(f"{sum(file.is_file() for file in folder.rglob('*'))} files", decimal(size_of(folder)))
    console.print(table)
    for sentence in found.left_out:
        say(console, f"note: left out: {sentence}", "yellow")


def agreed(asked: argparse.Namespace, console: Console) -> bool:
    """Whether a person says yes."""
    say(console, f"Upload this to {asked.repo}? [y/N] ", end="")
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        console.print()
    if answer.strip().lower() in ("y", "yes"):
        return True
    say(console, "nothing was uploaded; --yes uploads without asking, --to FOLDER writes it to a folder")
    return False


def upload(folder: Path, asked: argparse.Namespace, console: Console) -> int:
    """Make the repository, if it is not there, and put the folder into it; returns the exit code."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        api.create_repo(asked.repo, repo_type="dataset", private=not asked.public, exist_ok=True)
        if not asked.public and not api.dataset_info(asked.repo).private:
            print(
                f"tta-bench: {asked.repo} is there and public, so nothing was uploaded; --public if that is meant, else name "
                "another repository",
                file=sys.stderr,
            )
            return FAILED
        message = f"{len(list((folder / 'runs').iterdir()))} runs of tta_bench"
        api.upload_folder(repo_id=asked.repo, folder_path=folder, repo_type="dataset", commit_message=message)
    except (HfHubHTTPError, OSError) as error:
        print(
            f"tta-bench: the upload to {asked.repo} failed: {' '.join(str(error).split())}\n"
            "Log in with: hf auth login. --to FOLDER writes to a folder what would be uploaded",
            file=sys.stderr,
        )
        return FAILED
    say(console, f"uploaded: {api.endpoint}/datasets/{asked.repo}")
    return 0
