"""`adaptclip export`: a model as files for another runtime."""

import argparse
from pathlib import Path

from ..model_files import DEFAULT_NAME, is_exported
from . import argument_types as shared
from .argument_types import add_object_name

FORMATS = ("onnx", "openvino", "torch")
PRECISIONS = ("float32", "float16", "bfloat16", "int8")


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "export",
        help="write a model for ONNX Runtime, OpenVINO or torch.export",
        description="Writes a model as graphs for another runtime. They are run on real and on random images beside "
        "torch first: unless scores and maps agree to 1e-4, nothing is written. "
        "What a lower precision differs by is told.",
        epilog="""examples:
  adaptclip export --output tiny-onnx/                          the embedded model, for ONNX Runtime
  adaptclip detect part.png --model tiny-onnx/                  and every other command takes the folder like any model
  adaptclip export --profile bottle/ --output bottle-onnx/      with the profile's bank in one more graph
  python bottle-onnx/detect.py part.png                         which decides with onnxruntime, Pillow and numpy alone
  adaptclip export --precision int8 --images good/ --data mvtec/ --output tiny-int8/

The folder: encode (image -> features), score_zero_shot and score_few_shot (features, and the normal images' bank ->
score and map), each for any batch and any number of normal images; of ONNX also both steps in one, detect_zero_shot,
detect_few_shot and, with a profile, detect_profile. Thresholds are no part of a graph: they stand, with the
preprocessing's constants, in adaptclip_export.json.

float16 keeps the weights in half the bytes and computes in float32. bfloat16 (OpenVINO) computes the image encoder's
products in bfloat16, which a processor with AVX512-BF16 or AMX does faster; int8 in 8 bits, calibrated with --images.
Both change scores: --data measures what it costs, and a bank or profile of the float32 model is refused.

exit status: 0 written, 1 the export disagrees with torch or failed, 2 wrong call""",
    )
    parser.add_argument("--model", help=f"folder or Hub id; by default the profile's, or {DEFAULT_NAME}")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="(%(default)s)")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="(%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    words = parser.add_mutually_exclusive_group()
    add_object_name(words)
    words.add_argument("--profile", metavar="FOLDER|ID", help="bake its bank into one more graph (ONNX)")
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="PATH",
        default=(),
        help="real images to compare on, and for int8 to calibrate with (at least 8)",
    )
    parser.add_argument("--data", nargs="+", metavar="DIR", help="data sets to measure a lower precision's cost on")
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    return parser


def run(args: argparse.Namespace) -> int:
    from ..detector import AnomalyDetector
    from ..image_files import find_images
    from ..inspection import InspectionProfile
    from ..reporting import print_nothing

    if args.data and args.precision == "float32":
        args.parser.error("--data measures what a lower --precision costs; float32 costs nothing")
    profile = InspectionProfile.from_pretrained(args.profile) if args.profile else None
    model = shared.model_name(args, profile)
    if is_exported(model):  # before it is loaded in another precision than its own
        made = "; the profile that it made is for `adaptclip detect --profile PROFILE`" if args.model is None else ""
        raise ValueError(f"{model} is an export already: export the model that it came from{made}.")
    images = [str(path) for path in find_images(args.images)] if args.images else []
    report = print_nothing if args.quiet else print
    try:
        from ..export import export_model

        description = export_model(
            AnomalyDetector.from_pretrained(model, device="cpu", dtype="float32"),
            args.output,
            args.format,
            args.precision,
            args.object_name or (profile.object_name if profile else None),
            profile,
            images,
            (lambda detector: measure(detector, args.data)) if args.data else None,
            report,
            progress=not args.quiet,
        )
    except ImportError as error:
        raise ValueError(str(error)) from error
    if not args.quiet:
        tell(description, args.output)
    return 0


def measure(detector, data: list[str]) -> dict[str, float]:
    """{category, shots and metric: fraction}, zero-shot and with 4 normal images of one draw."""
    import tempfile

    from ..evaluation.evaluate import evaluate

    with tempfile.TemporaryDirectory() as folder:
        results = evaluate(detector, data, folder, shots=[0, 4], seeds=[10], progress=False)
    return {
        f"{line['category']} {line['shots']}-shot {line['metric']}": line["mean"]
        for line in results["summary"]
        if line["category"] and line["metric"] in ("image_auroc", "pixel_auroc")
    }


def tell(description, output: Path):
    parity = description.parity
    print(
        f"compared with torch on {parity['images']} images: scores differ by {parity['scores']:.1e}, maps by "
        f"{parity['maps']:.1e}, at most"
    )
    for name, figures in description.accuracy.items():
        print(f"{name}: " + ", ".join(f"{kind} {100 * value:.1f}" for kind, value in figures.items()))
    if description.is_lowered:
        cost = "" if description.accuracy else "; --data measures what it costs"
        print(f"another model than the one that was exported: it refuses that one's profiles{cost}")
        print(f"its own profiles: adaptclip fit --normal PHOTOS --model {output} --output PROFILE")
    size = sum(file.stat().st_size for file in output.iterdir() if file.is_file())
    print(f"written: {output} ({size / 2**20:.1f} MiB)")
