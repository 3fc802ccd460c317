"""Profile -> spectrogram settings by rule, each with its reason.

The constants come from settings that worked by hand on speech digits, environmental sounds, insects
and ships. Band and rate follow the effective band, with a margin because that estimate cuts off
quiet but informative parts. Time resolution follows from cost: a segment has about 250 frames, 10
to 25 ms each, so that sets of any clip length train in similar time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from xmoe.base.config import SpectroConfig
from xmoe.base.units import format_hz, hz_to_mel, mel_to_hz
from xmoe.policy.records import Choice, PolicyOverrides
from xmoe.profile.profile import Profile

NUM_BINS = 64
# Narrower than an octave, a band has nothing to divide; PCEN needs segments as long as its mean.
NARROW_RATIO, PCEN_LEAST_S = 2.0, 0.4
LOWEST_HZ = 20.0
# The effective band cuts off quiet but informative parts.
LOW_MARGIN, HIGH_MARGIN = 0.8, 1.05
# If a quarter of the recordings end at a codec's limit, what others hold above it tells the codec.
CODEC_SHARE, CODEC_MARGIN = 0.25, 1.1
# A rate of twice the band leaves no room for the resampler's roll-off.
RATE_MARGIN = 2.2
LOWEST_RATE_HZ = 8000
MINOR_RATE_SHARE, MINOR_RATE_LEAST = 0.1, 0.25

WHOLE_CLIP_S, CUT_S, LEAST_SEGMENT_S = 6.0, 3.0, 0.1
EQUAL_LENGTHS, LENGTH_MARGIN = 0.05, 1.2

FRAMES, LEAST_FRAMES = 250, 64
SHORT_HOP_S, LONG_HOP_S, STEADY_HOP_S = 0.010, 0.025, 0.020
STEADY_TRANSIENT = 0.1
WINDOW_HOPS, LEAST_WINDOW_HOPS, WINDOW_S = 2.5, 2.0, 0.025
PADDED_FFT, SHORTEST_FFT, SHORTEST_WINDOW = 4, 32, 16
NEAR_POWER = 1.1
# Where noise is louder than the sounds CNNs find what random kernels miss, given enough clips.
LOUD_NOISE_DB, ENOUGH_CLIPS = 0.0, 500


def decide_spectro(
    profile: Profile, overrides: PolicyOverrides
) -> tuple[SpectroConfig, list[Choice]]:
    """The settings of the front end and the choices behind them.

    ``overrides`` must have passed ``check_overrides``.
    """
    ceiling = _ceiling(profile, overrides)
    band = _band(profile, overrides, ceiling)
    low_hz, high_hz = band.value
    rate = _rate(profile, overrides, ceiling, high_hz)
    segment = _segment(profile, overrides)
    bins = _bins(overrides)
    choices = [rate, band, _frontend(overrides), bins, segment]
    choices += _time_grid(profile, rate.value, segment.value)
    choices.append(
        _fft(choices[-1].value, rate.value, band_hz=(low_hz, high_hz), num_bins=bins.value)
    )
    values = {choice.name: choice.value for choice in choices if choice.name != "band_hz"}
    spectro = SpectroConfig.model_validate(values | {"fmin_hz": low_hz, "fmax_hz": high_hz})
    return spectro, choices


def _ceiling(profile: Profile, overrides: PolicyOverrides) -> Choice:
    """The highest rate that the set supports, before the band may lower it."""
    given, rates = overrides.sample_rate_hz, profile.fs_unique
    if given is not None:
        return Choice.given("sample_rate_hz", given)
    value, reason = _common_rate(profile)
    if overrides.band_hz is not None and overrides.band_hz[1] > value / 2:
        top_hz = overrides.band_hz[1]
        value = min(rate for rate in rates if rate / 2 >= top_hz)
        reason = f"the lowest rate among the recordings that holds {format_hz(top_hz)} as given"
    return Choice(name="sample_rate_hz", value=value, reason=reason)


def _common_rate(profile: Profile) -> tuple[int, str]:
    """A rate that most recordings reach, and why."""
    rates, mode = profile.fs_unique, profile.fs_mode_hz
    if len(rates) == 1:
        return mode, f"all recordings have {format_hz(mode)}"
    minor = [
        rate
        for rate, count in rates.items()
        if MINOR_RATE_LEAST * mode <= rate < mode and count >= MINOR_RATE_SHARE * profile.num_clips
    ]
    if minor and "sample_rate" in profile.leakage.leaking:
        return min(minor), (
            f"the sample rate alone gives the label away (balanced accuracy "
            f"{profile.leakage.accuracy['sample_rate']:.0%}, chance {profile.leakage.chance:.0%}): "
            f"the lowest common rate hides it"
        )
    half = sum(rates.values()) / 2
    reached = {rate: sum(n for other, n in rates.items() if other >= rate) for rate in rates}
    value = min(mode, max(rate for rate, count in reached.items() if count >= half))
    share = reached[value] / sum(rates.values())
    which = "most frequent" if value == mode else "highest that half of the recordings have"
    return value, f"the {which} of {len(rates)} rates: {share:.0%} have it or a higher one"


def _band(profile: Profile, overrides: PolicyOverrides, ceiling: Choice) -> Choice:
    nyquist_hz = ceiling.value / 2
    if overrides.band_hz is not None:
        return Choice.given("band_hz", list(overrides.band_hz))
    low_hz = max(LOWEST_HZ, _two_digits(LOW_MARGIN * profile.fmin_eff_hz))
    wanted_hz = HIGH_MARGIN * profile.fmax_eff_hz
    reason = (
        f"the effective band of recordings and classes is {format_hz(profile.fmin_eff_hz)} to "
        f"{format_hz(profile.fmax_eff_hz)}; with a margin, and at most half the rate"
    )
    limit_hz = profile.band_limit_hz
    if limit_hz is not None and profile.band_limited_fraction >= CODEC_SHARE:
        wanted_hz = min(wanted_hz, CODEC_MARGIN * limit_hz)
        reason += (
            f"; {profile.band_limited_fraction:.0%} of the recordings hold nothing above a codec "
            f"limit near {format_hz(limit_hz)}, so little above it is kept"
        )
    high_hz = min(_two_digits(wanted_hz), nyquist_hz)
    if high_hz < 2 * low_hz:
        low_hz = min(low_hz, high_hz / 2)
    return Choice(name="band_hz", value=[low_hz, high_hz], reason=reason)


def _rate(profile: Profile, overrides: PolicyOverrides, ceiling: Choice, high_hz: float) -> Choice:
    """Lower the ceiling by a whole factor if the band allows it: cheaper, and nothing is lost."""
    rate = ceiling.value
    if ceiling.source == "user":
        return ceiling
    factors = range(rate // LOWEST_RATE_HZ, 1, -1)
    lowered = (rate // n for n in factors if rate % n == 0 and rate / n >= RATE_MARGIN * high_hz)
    found = next(lowered, None)
    if found is None:
        return ceiling
    reason = (
        f"{ceiling.reason}; nothing above {format_hz(high_hz)} is used, so "
        f"{rate // found} times fewer samples are enough"
    )
    return ceiling.model_copy(update={"value": found, "reason": reason})


def _segment(profile: Profile, overrides: PolicyOverrides) -> Choice:
    if overrides.segment_s is not None:
        return Choice.given("segment_s", overrides.segment_s)
    lengths = profile.quantiles["duration_s"]
    if lengths.p95 > WHOLE_CLIP_S:
        reason = f"5 % of the clips are longer than {lengths.p95:.3g} s: they are cut into segments"
        return Choice(name="segment_s", value=CUT_S, reason=reason)
    if lengths.p95 - lengths.p05 <= EQUAL_LENGTHS * lengths.p95:
        # No shorter than the clips: a single sample beyond the end would be a second segment.
        step = 10.0 ** (math.floor(math.log10(lengths.p95)) - 2)
        value = max(round(math.ceil(lengths.p95 / step - 1e-6) * step, 9), LEAST_SEGMENT_S)
        reason = f"nearly all clips are {lengths.p95:.3g} s long"
        return Choice(name="segment_s", value=value, reason=reason)
    value = max(math.ceil(10 * LENGTH_MARGIN * lengths.p95 - 1e-6) / 10, LEAST_SEGMENT_S)
    reason = f"95 % of the clips have at most {lengths.p95:.3g} s; they fit in with a margin"
    return Choice(name="segment_s", value=value, reason=reason)


def _bins(overrides: PolicyOverrides) -> Choice:
    if overrides.num_bins is not None:
        return Choice.given("num_bins", overrides.num_bins)
    reason = "cost grows with it; stem and experts were tuned with this many rows"
    return Choice(name="num_bins", value=NUM_BINS, reason=reason)


def _frontend(overrides: PolicyOverrides) -> Choice:
    if overrides.frontend is not None:
        return Choice.given("frontend", overrides.frontend)
    reason = "log-mel was never clearly beaten where front ends were compared"
    return Choice(name="frontend", value="logmel", reason=reason)


def _time_grid(profile: Profile, sample_rate_hz: int, segment_s: float) -> Iterator[Choice]:
    """Yield segment_hop_s in seconds, hop_length and win_length in samples."""
    half = "segments of long clips overlap by half, so that no sound is cut in all of them"
    yield Choice(name="segment_hop_s", value=segment_s / 2, reason=half)
    hop_s, why = _hop(profile, segment_s)
    hop = max(round(hop_s * sample_rate_hz), 1)
    yield Choice(name="hop_length", value=hop, reason=f"{1000 * hop_s:.3g} ms: {why}")
    steady = profile.transient < STEADY_TRANSIENT
    hops = WINDOW_HOPS * hop_s
    window_s = hops if steady else max(LEAST_WINDOW_HOPS * hop_s, min(hops, WINDOW_S))
    win = max(round(window_s * sample_rate_hz), SHORTEST_WINDOW)
    below = 2 ** math.floor(math.log2(win))
    if win <= NEAR_POWER * below:
        win = below
    reason = (
        f"{1000 * win / sample_rate_hz:.3g} ms, {win / hop:.3g} hops: frames overlap by about half"
    )
    yield Choice(name="win_length", value=win, reason=reason)


def _hop(profile: Profile, segment_s: float) -> tuple[float, str]:
    """The hop in seconds and why."""
    about = segment_s / FRAMES
    hop_s = min(max(about, min(SHORT_HOP_S, segment_s / LEAST_FRAMES)), LONG_HOP_S)
    why = f"about {segment_s / hop_s:.0f} frames in a segment of {segment_s:g} s"
    if profile.transient < STEADY_TRANSIENT and hop_s < STEADY_HOP_S <= segment_s / LEAST_FRAMES:
        hop_s = STEADY_HOP_S
        why = f"the sounds are steady (transient score {profile.transient:.2f}), frequency matters"
    return hop_s, why


def decide_fit(profile: Profile) -> Choice:
    """Whether a network is trained by gradient beside what is fitted in closed form."""
    clips = profile.splits.get("train", 0)
    noise = f"median SNR {profile.snr_db:.1f} dB"
    if profile.snr_db >= LOUD_NOISE_DB:
        return Choice(name="fit", value="closed", reason=f"{noise}: random kernels do well")
    if clips < ENOUGH_CLIPS:
        reason = f"{noise}, but {clips} training clips are too few to train a network on"
        return Choice(name="fit", value="closed", reason=reason)
    reason = (
        f"{noise}: in noise louder than the sounds a network trained by gradient may hear more; it "
        f"is kept where validation clips say so"
    )
    return Choice(name="fit", value="both", reason=reason)


def lowest_mel_row_hz(band_hz: tuple[float, float], num_bins: int) -> float:
    """Width of the lowest of ``num_bins`` mel triangles, which is the narrowest."""
    low, high = (float(hz_to_mel(edge)) for edge in band_hz)
    return float(mel_to_hz(low + 2 * (high - low) / (num_bins + 1))) - band_hz[0]


def choose_fft(win: int, sample_rate_hz: int, row_hz: float) -> int:
    """n_fft: the window, padded until rows as narrow as ``row_hz`` do not all read one bin."""
    n_fft: int = max(2 ** math.ceil(math.log2(win)), SHORTEST_FFT)
    while sample_rate_hz / n_fft > row_hz and n_fft < PADDED_FFT * win:
        n_fft *= 2
    return n_fft


def _fft(win: int, sample_rate_hz: int, *, band_hz: tuple[float, float], num_bins: int) -> Choice:
    row_hz = lowest_mel_row_hz(band_hz, num_bins)
    n_fft = choose_fft(win, sample_rate_hz, row_hz)
    step_hz = sample_rate_hz / n_fft
    reason = (
        f"a power of two that holds the window; bins of {step_hz:.3g} Hz, the lowest mel row spans "
        f"{row_hz:.3g} Hz"
    )
    return Choice(name="n_fft", value=n_fft, reason=reason)


def _two_digits(frequency_hz: float) -> float:
    """Round a frequency to two significant digits: more would be false precision."""
    return float(f"{frequency_hz:.2g}")
