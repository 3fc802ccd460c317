"""How fast the front ends are, each beside a peer that does the same, in one run.

    python benchmarks/frontends.py [--threads 1] [--repeats 15]

Times are CPU milliseconds for a batch, the best of ``--repeats`` rounds in which ours and the peer
take turns, so that a busy machine slows both. ``ratio`` is the peer's time over ours: above 1 we
are faster. The peers are told to do the same work (same frames, bins and band) and the last column
says where they differ.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import librosa
import torch
import torchaudio
from rich.console import Console
from rich.table import Table
from torch import Tensor

from xmoe.base.config import SpectroConfig
from xmoe.frontend import build_frontend
from xmoe.frontend.cwt import OMEGA0, Cwt
from xmoe.frontend.pcen import Pcen, pcen
from xmoe.frontend.spec_augment import AugmentConfig, augment_batch

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table: our work, the peer's, and how they differ."""

    ours: str
    work: Work
    peer: str
    peer_work: Work
    difference: str


@dataclass(frozen=True)
class Setting:
    """A batch of noise and the transform's sizes."""

    name: str
    config: SpectroConfig
    batch: int

    def clips(self) -> Tensor:
        """Return [B, S] noise at -20 dB."""
        generator = torch.Generator().manual_seed(0)
        return 0.1 * torch.randn(self.batch, self.config.segment_samples, generator=generator)

    def frontend_config(self, name: str) -> SpectroConfig:
        """Return the same sizes for another front end."""
        return SpectroConfig(**(self.config.model_dump() | {"frontend": name}))


SETTINGS = (
    Setting("32 x 1 s, 16 kHz, 64 bins, hop 160", SpectroConfig(fmin_hz=50.0), 32),
    Setting(
        "1 x 10 s, 32 kHz, 128 bins, hop 320",
        SpectroConfig(
            sample_rate_hz=32000,
            fmin_hz=50.0,
            fmax_hz=14000.0,
            n_fft=1024,
            win_length=1024,
            hop_length=320,
            num_bins=128,
            segment_s=10.0,
        ),
        1,
    ),
)


def race(ours: Work, peer: Work, repeats: int) -> tuple[float, float]:
    """Return the best CPU time of each in ms, taking turns."""
    best = [math.inf, math.inf]
    for _ in range(repeats + 1):
        for index, work in enumerate((ours, peer)):
            started = time.process_time()
            work()
            best[index] = min(best[index], (time.process_time() - started) * 1e3)
    return best[0], best[1]


def naive_cwt(frontend: Cwt, x: Tensor) -> Tensor:
    """Return the scalogram [B, F, T] as one full-rate inverse FFT per wavelet, then frame means."""
    hop, samples = frontend.config.hop_length, x.shape[-1]
    size = 2 * samples
    hz = torch.arange(size // 2 + 1) * (frontend.config.sample_rate_hz / size)
    wavelets = 2 * torch.exp(-0.5 * (OMEGA0 * hz / frontend.bin_centers_hz[:, None] - OMEGA0) ** 2)
    spectra = torch.fft.rfft(x, n=size)
    full = [torch.fft.ifft(clip * wavelets, n=size)[:, :samples] for clip in spectra]
    power: Tensor = torch.stack(full).abs().square()
    return torch.nn.functional.avg_pool1d(power, hop)


def looped_pcen(magnitude: Tensor, smoothing: float) -> Tensor:
    """Return PCEN with its running mean as a loop over frames."""
    state, means = magnitude.mean(dim=-1), []
    for frame in magnitude.unbind(dim=-1):
        state = torch.lerp(state, frame, smoothing)
        means.append(state)
    gained = magnitude * torch.pow(torch.stack(means, dim=-1) + 1e-4, -0.98)
    compressed: Tensor = torch.sqrt(gained + 2.0) - 2.0**0.5
    return compressed


def fourier_rows(setting: Setting, x: Tensor) -> list[Row]:
    """STFT and log-mel beside torch, torchaudio and librosa."""
    config, clips = setting.config, x.numpy()
    stft = build_frontend(setting.frontend_config("stft"))
    logmel = build_frontend(setting.frontend_config("logmel"))
    window = torch.hann_window(config.win_length)
    mel = torchaudio.transforms.MelSpectrogram(
        config.sample_rate_hz,
        n_fft=config.n_fft,
        win_length=config.win_length,
        hop_length=config.hop_length,
        f_min=config.fmin_hz,
        f_max=config.fmax_hz,
        n_mels=config.num_bins,
    )
    to_db = torchaudio.transforms.AmplitudeToDB(top_db=80.0)

    def bare_stft() -> object:
        size, hop_length = config.n_fft, config.hop_length
        return torch.stft(
            x, size, hop_length, config.win_length, window=window, return_complex=True
        )

    def librosa_mel() -> object:
        spec = librosa.feature.melspectrogram(
            y=clips,
            sr=config.sample_rate_hz,
            n_fft=config.n_fft,
            win_length=config.win_length,
            hop_length=config.hop_length,
            n_mels=config.num_bins,
            fmin=config.fmin_hz,
            fmax=config.fmax_hz,
        )
        return librosa.power_to_db(spec, top_db=80.0)

    def ours() -> object:
        return logmel(x)

    return [
        Row(
            "STFT power", lambda: stft.power(x), "torch.stft", bare_stft, "peer: no power, no rows"
        ),
        Row("log-mel", ours, "torch.stft", bare_stft, "peer: no power, no mel, no dB"),
        Row("log-mel", ours, "torchaudio mel, dB", lambda: to_db(mel(x)), "ours: also z-scores"),
        Row("log-mel", ours, "librosa mel, dB", librosa_mel, "ours: also z-scores"),
    ]


def pcen_rows(setting: Setting, x: Tensor) -> list[Row]:
    """The compression by PCEN, from the same magnitudes."""
    frontend = Pcen(setting.frontend_config("pcen"))
    smoothing = frontend.smoothing
    magnitude = frontend.power(x).sqrt()
    array, start = magnitude.numpy(), magnitude.mean(dim=-1)

    def ours() -> object:
        return pcen(magnitude, start, smoothing, floor=1e-4)

    return [
        Row("PCEN step", ours, "torch loop", lambda: looped_pcen(magnitude, smoothing), ""),
        Row("PCEN step", ours, "librosa.pcen", lambda: librosa.pcen(array, b=smoothing), ""),
    ]


def filterbank_rows(setting: Setting, x: Tensor) -> list[Row]:
    """CQT beside librosa, CWT beside the plain FFT method."""
    config, clips = setting.config, x.numpy()
    cqt = build_frontend(setting.frontend_config("cqt"))
    cwt = Cwt(setting.frontend_config("cwt"))
    per_octave = math.ceil(config.num_bins / math.log2(config.fmax_hz / config.fmin_hz))

    def librosa_cqt() -> object:
        return librosa.cqt(
            clips,
            sr=config.sample_rate_hz,
            hop_length=config.hop_length,
            fmin=config.fmin_hz,
            n_bins=config.num_bins,
            bins_per_octave=per_octave,
        )

    return [
        Row("CQT power", lambda: cqt.power(x), "librosa.cqt", librosa_cqt, "peer: no hop means"),
        Row("CWT power", lambda: cwt.power(x), "FFT per wavelet", lambda: naive_cwt(cwt, x), ""),
    ]


def augmentation_row(repeats: int) -> str:
    """Return the cost of augmenting [32, 64, 256] beside its log-mel."""
    frontend = build_frontend(SpectroConfig())
    generator = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(32, 255 * 160, generator=generator)
    power = frontend.power(x)
    ours, peer = race(
        lambda: augment_batch(
            power, AugmentConfig(), bin_centers_hz=frontend.bin_centers_hz, generator=generator
        ),
        lambda: frontend.power(x),
        repeats,
    )
    return f"augment_batch of [32, 64, 256]: {ours:.1f} ms; the mel power it saves: {peer:.1f} ms"


def main() -> None:
    """Print one table per setting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=110)
    for setting in SETTINGS:
        table = Table(title=f"{setting.name}, {options.threads} thread(s)")
        for column in ("ours", "ms", "peer", "peer ms", "ratio", "difference"):
            numeric = column in ("ms", "peer ms", "ratio")
            table.add_column(column, justify="right" if numeric else "left")
        x = setting.clips()
        for row in (
            *fourier_rows(setting, x),
            *pcen_rows(setting, x),
            *filterbank_rows(setting, x),
        ):
            ours_ms, peer_ms = race(row.work, row.peer_work, options.repeats)
            numbers = (f"{ours_ms:.2f}", row.peer, f"{peer_ms:.2f}", f"{peer_ms / ours_ms:.2f}")
            table.add_row(row.ours, *numbers, row.difference)
        console.print(table)
    console.print(augmentation_row(options.repeats))


if __name__ == "__main__":
    main()
