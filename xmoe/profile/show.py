"""Profile -> text on a console: what to know before training, on one screen."""

from __future__ import annotations

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xmoe.audio.dataset import natural_key
from xmoe.base.units import format_hz
from xmoe.profile.advice import FEATURE_WORDS
from xmoe.profile.profile import ClassProfile, Profile

BAR_WIDTH = 24
MOST_CLASSES = 40


def print_profile(profile: Profile, console: Console) -> None:
    """Print facts, quantiles, classes, leakage and warnings."""
    blank = Text()
    parts = (_facts(profile), blank, _quantile_table(profile), blank, _class_table(profile), blank)
    console.print(Group(*parts, _leakage_line(profile)))
    for sentence in profile.warnings:
        console.print(f"[yellow]![/] {escape(sentence)}", highlight=False)
    if not profile.warnings:
        console.print("No warnings.", highlight=False)


def format_duration(seconds: float) -> str:
    """A readable duration: ``850 ms``, ``42.0 s``, ``21.9 min``, ``3.1 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _counted(counts: dict[int, int] | dict[str, int], form: str = "{}") -> str:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return ", ".join(f"{form.format(key)} x {count}" for key, count in ranked)


def _facts(profile: Profile) -> Table:
    bits = {str(depth or "lossy"): count for depth, count in profile.bit_depths.items()}
    facts = {
        "recordings": f"{profile.num_clips} ({format_duration(profile.total_duration_s)}), "
        f"{profile.num_quarantined} quarantined, {profile.num_duplicates} repeated",
        "splits": _counted(profile.splits),
        "sample rates": ", ".join(
            f"{format_hz(rate)} x {count}" for rate, count in profile.fs_unique.items()
        ),
        "formats": f"{_counted(profile.formats)}; channels {_counted(profile.channels)}; "
        f"bits {_counted(bits)}",
        "effective band": f"{format_hz(profile.fmin_eff_hz)} to {format_hz(profile.fmax_eff_hz)}"
        f" (Nyquist {format_hz(profile.fs_mode_hz / 2)})",
        "codec limit": _codec_limit(profile),
        "SNR proxy": f"{profile.snr_db:.1f} dB (median)",
        "transients": f"{profile.transient:.2f} of 1",
        "clipping": f"{profile.clipping_rate:.3%} of samples, {profile.clipped_fraction:.1%} of "
        "recordings",
        "silence": f"{profile.silence_rate:.1%} of the time",
        "quality Q": f"{profile.quality:.2f} of 1",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(f"[bold]{name}[/]", escape(value))
    return table


def _codec_limit(profile: Profile) -> str:
    if profile.band_limit_hz is None:
        return "none found"
    return (
        f"{profile.band_limited_fraction:.0%} of recordings, at {format_hz(profile.band_limit_hz)}"
    )


def _quantile_table(profile: Profile) -> Table:
    table = Table(title="Over the recordings", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    names = ("min", "p05", "p25", "p50", "p75", "p95", "max")
    for name in names:
        table.add_column(name, justify="right")
    for measure, quantiles in profile.quantiles.items():
        table.add_row(measure, *(f"{getattr(quantiles, name):.4g}" for name in names))
    return table


def _class_table(profile: Profile) -> Table:
    title = f"{len(profile.classes)} classes, largest over smallest {profile.imbalance:.3g}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name, justify in (("class", "left"), ("clips", "right"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in ("length", "band", "SNR dB"):
        table.add_column(name, justify="right")
    most = max(own.count for own in profile.classes.values()) if profile.classes else 1
    ordered = sorted(profile.classes.items(), key=lambda item: natural_key(item[0]))
    for name, own in ordered[:MOST_CLASSES]:
        bar = "━" * max(round(BAR_WIDTH * own.count / most), 1)
        table.add_row(escape(name), str(own.count), bar, *_class_cells(own))
    if len(profile.classes) > MOST_CLASSES:
        table.add_row(f"and {len(profile.classes) - MOST_CLASSES} more")
    return table


def _class_cells(own: ClassProfile) -> tuple[str, str, str]:
    if own.fmin_eff_hz is None or own.fmax_eff_hz is None:
        band = "silent"
    else:
        band = f"{format_hz(own.fmin_eff_hz)} - {format_hz(own.fmax_eff_hz)}"
    return format_duration(own.duration_s), band, f"{own.snr_db:.1f}"


def _leakage_line(profile: Profile) -> Text:
    leak = profile.leakage
    if not leak.accuracy:
        return Text(f"Format leakage not measured: {leak.note}.")
    words = {**FEATURE_WORDS, "joint": "all but the codec limit together"}
    parts = "; ".join(
        f"{words[name]} {value:.0%}"
        for name, value in leak.accuracy.items()
        if value != leak.chance
    )
    return Text(
        f"Label guessed without listening (chance {leak.chance:.0%}, notable over "
        f"{leak.threshold:.0%}): {parts or 'at chance, the format is the same everywhere'}."
    )
