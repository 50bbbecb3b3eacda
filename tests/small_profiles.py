"""A profile of a few good photos, fitted by the command line in a moment."""

from dataclasses import replace
from pathlib import Path

from adaptclip_hf import InspectionProfile
from adaptclip_hf.cli import main


def fit_small_profile(good: Path, model: Path, false_alarm_rate: float, profile: Path):
    """Without a verdict, which takes longer than all else."""
    words = ["fit", "--no-verdict", "--quiet", "--normal", good, "--false-alarm-rate", false_alarm_rate]
    assert main([str(word) for word in (*words, "--model", model, "--output", profile)]) == 0


def inspects_all(profile: Path):
    """Lets a profile decide every photo: to random weights what is meant as a defect is another product."""
    replace(InspectionProfile.from_pretrained(profile), inspectable=None).save_pretrained(profile)
