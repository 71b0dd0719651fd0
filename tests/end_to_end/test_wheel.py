from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_command_runs_from_a_wheel_in_another_folder(tmp_path: Path) -> None:
    """Build the wheel, unpack it, and run the command from there with the source tree out of reach."""
    source = tmp_path / "source"
    for name in ("tta_bench", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.stat().st_size < 12e6
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    for file in ("tta_bench/conf/hydra/launcher/slurm.yaml", "hydra_plugins/tta_bench/__init__.py"):
        assert (site / file).is_file(), file
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import tta_bench, tta_bench.conf; from tta_bench.cli import main\n"
        f"assert all(m.__file__.startswith({str(site)!r}) for m in (tta_bench, tta_bench.conf))\n"
        "sys.exit(main(['run', 'n_problems=3', 'steps=2', 'task=arithmetic']))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, check=True, capture_output=True, text=True).stdout
    assert "low_confidence" in shown
    assert (elsewhere / "outputs" / "reports" / "default" / "report.html").is_file()
