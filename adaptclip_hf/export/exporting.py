"""Writes a model as graphs for another runtime, and checks that they agree with torch."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from tqdm.auto import tqdm
from transformers.exporters.base import ExportedComponent, ExportedModel

from ..engine import AnomalyScorer
from ..engine.colour_scale import FIXED
from ..engine.tiles import WHOLE
from ..inspection import InspectionProfile
from ..inspection.description import computed_in
from ..inspection.photos import pixel_digest
from ..model_files import EXPORT_FILE
from ..modeling.checksums import CHECKSUMS_FILE, read_checksums, write_checksums
from ..modeling.modeling_adaptclip import AdaptCLIPModel
from ..processing import image_opening, image_structure
from ..processing.image_loading import load_image
from ..reporting import Report, print_nothing
from ..runtimes.description import OF, BakedProfile, Description, MadeBy, Preprocessing
from ..runtimes.exported_model import ExportedAdaptCLIP, ExportedAdaptCLIPConfig
from ..runtimes.formats import BFLOAT16, ENCODE, EXPORT_FORMATS, FEW_SHOT, FLOAT16, FLOAT32, INT8, ZERO_SHOT, Format
from ..runtimes.quiet import quiet
from .graphs import Graph, graphs_of
from .parity import compare, require_parity, sample_images

DETECT_ZERO_SHOT, DETECT_FEW_SHOT, DETECT_PROFILE = "detect_zero_shot", "detect_few_shot", "detect_profile"
STANDALONE = "detect.py"
FEWEST_TO_CALIBRATE = 8
STEPS = 8  # three graphs are traced, all are written and opened, two runtimes encode, and checksums are written


def export_model(
    detector: AnomalyScorer,
    output: str | Path,
    export_format: str = "onnx",
    precision: str = FLOAT32,
    object_name: str | None = None,
    profile: InspectionProfile | None = None,
    images: Sequence = (),
    measure: Callable[[AnomalyScorer], dict[str, float]] | None = None,
    report: Report = print_nothing,
    progress: bool = False,
) -> Description:
    """Exports a model; the folder opens like any model's, and without this package.

    Args:
        detector: of torch, in float32, on the CPU.
        output: a folder that is not there, or an export to replace.
        export_format: one of `EXPORT_FORMATS`.
        precision: "float32", "float16" (weights; products stay float32), or of the image encoder's products "bfloat16"
            (OpenVINO) or "int8".
        object_name: the word for the object in the text prompts, which become constants of the graphs.
        profile: whose bank is baked into one more graph (ONNX), with its threshold and scores in the description.
        images: real ones to compare on, and for int8 to calibrate with.
        measure: accuracy of a detector by data set; called before and after for a lower precision.
        report: called with lines for people.
        progress: show a bar, with the step that is under way.

    Raises:
        ImportError: a library that the format takes is not installed.
        FileExistsError: the folder holds something else than an export.
        ValueError: the format has no such precision; too few images for int8; scores or maps are not torch's.
    """
    output = Path(os.path.realpath(output))
    model, chosen, exact = check(export_format, precision, detector, profile, images)
    require_replaceable(output)
    about = detector.describe(object_name)
    if not exact:  # banks and profiles of the float32 model are refused
        lowered = lowered_name(chosen, precision, images)
        about["fingerprint"] = about["fingerprint"] | {"weights": lowered + OF + about["fingerprint"]["weights"]}
        about["weights"] = lowered + OF + about["weights"]
    processor = detector.processor.image_processor
    preprocessing = {
        "size": model.config.image_size,
        "resample": int(processor.resample),
        "rescale_factor": processor.rescale_factor,
        "image_mean": list(processor.image_mean),
        "image_std": list(processor.image_std),
    }
    baked = None
    if profile is not None:  # what turns a score of the graph with its bank into a decision
        if profile.made_by["dtype"] != about["dtype"]:
            report(f"the graphs compute in {about['dtype']}; the profile was {computed_in(profile)}")
        baked = BakedProfile(
            threshold=float(profile.calibration.threshold),
            pixel_threshold=profile.pixel_threshold,
            scores=profile.calibration.scores.tolist(),
            tile=profile.view.tile if profile.view.tile == WHOLE else "auto",
            colours=list(map(list, profile.colours.stops)),
        )
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    measured = measure is not None and precision != FLOAT32
    with (
        steps_of(report, progress, measured) as begin,
        tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=f".{output.name}-") as aside,
    ):
        folder = Path(aside, output.name)
        write_graphs(detector, folder, chosen, precision, exact, about["object_name"], images, begin)
        if chosen.name == "onnx":
            write_joined(folder, profile)
        detector.processor.save_pretrained(folder)
        description = Description(
            format=cast(Any, chosen.name),
            precision=cast(Any, precision),
            made_by=MadeBy(**about),
            preprocessing=Preprocessing(**preprocessing),
            parity={},
            object_name=about["object_name"],
            profile=baked,
            colours=list(map(list, FIXED.stops)),
        )
        description.save(folder)
        begin("opening")
        opened = ExportedAdaptCLIP.from_pretrained(folder, device="cpu", trust_remote_code=True)
        exported = AnomalyScorer(opened, detector.processor)
        parity = compare(detector, exported, sample_images(images), begin)
        if exact:
            require_parity(parity, output)
        accuracy = {}
        if measure is not None and measured:
            begin("measuring torch")
            before = measure(detector)
            begin(f"measuring {precision}")
            after = measure(exported)
            accuracy = {name: {"torch": before[name], precision: after[name]} for name in before}
        description = description.model_copy(update={"parity": parity, "accuracy": accuracy})
        description.save(folder)
        begin("writing checksums")
        write_checksums(folder, [file.name for file in folder.iterdir()])
        del exported, opened
        require_replaceable(output)
        if output.exists():
            output.replace(Path(aside, "older"))  # removed with the folder that it lies in
        folder.replace(output)
    return description


@contextmanager
def steps_of(report: Report, progress: bool, measured: bool) -> Iterator[Report]:
    """Yields what is called with the name of each step when it begins: for a bar, or for lines where there is none."""
    with tqdm(total=STEPS + 2 * measured, unit="step", disable=not progress) as bar:

        def begin(step: str):
            if not progress:
                report(step)
            elif bar.desc:  # the one before is done
                bar.update()
            bar.set_description(step)

        yield begin
        bar.update()


def require_replaceable(output: Path):
    """Refuses a folder that holds anything else than an export, which would go with it.

    Raises:
        FileExistsError: names what lies there.
    """
    if not output.exists():
        return
    if not output.is_dir() or (any(output.iterdir()) and not (output / EXPORT_FILE).exists()):
        raise FileExistsError(f"{output} holds something else than an export: name another folder.")
    ours = {*read_checksums(output / CHECKSUMS_FILE), CHECKSUMS_FILE}
    for file in sorted(output.iterdir()):
        of_older = len(ours) == 1 and not file.is_dir()  # version 0.2 wrote no sums
        if file.name not in ours and not of_older and file.name != "__pycache__":
            raise FileExistsError(f"{output} is an export, and holds {file.name} too: move that, or name another.")


def check(
    export_format: str, precision: str, detector: AnomalyScorer, profile: InspectionProfile | None, images: Sequence
) -> tuple[AdaptCLIPModel, Format, bool]:
    """The model, the format, and whether its precision loses nothing, if everything that the export needs is there."""
    if export_format not in EXPORT_FORMATS:
        raise ValueError(f"There is no format {export_format!r}; there are {', '.join(EXPORT_FORMATS)}.")
    chosen = EXPORT_FORMATS[export_format]
    if precision not in chosen.precisions:
        others = [f"--format {each.name}" for each in EXPORT_FORMATS.values() if precision in each.precisions]
        raise ValueError(
            f"The format {chosen.name} is written in {', '.join(chosen.precisions)}, not {precision!r}"
            + (f", which {' or '.join(others)} is." if others else ".")
        )
    chosen.require(*chosen.to_write, *chosen.to_run)
    model = detector.model
    if not isinstance(model, AdaptCLIPModel):
        raise ValueError(f"{model.name_or_path} is an export already: export the model that it came from.")
    if model.dtype != torch.float32 or model.device.type != "cpu":
        raise ValueError(f"Load the model in float32 on the CPU to export it, not {model.dtype}.")
    if untrained := sorted(model.untrained_adapters()):
        raise ValueError(
            f"{', '.join(untrained)} were never trained: train them, or load the model without them "
            f"({', '.join(f'{name}=False' for name in untrained)}) to export what needs no training."
        )
    if precision == INT8 and len(images) < FEWEST_TO_CALIBRATE:
        raise ValueError(
            f"int8 is calibrated with images of what will be inspected: at least {FEWEST_TO_CALIBRATE} are needed, got "
            f"{len(images)} (--images)."
        )
    exact = keeps_weights(model, chosen, precision)
    if profile is not None:
        if not exact:
            raise ValueError(
                f"In {precision} scores differ from those that this profile was calibrated with: export without "
                "--profile, and fit one with the export (`adaptclip fit --normal PHOTOS --model EXPORT`)."
            )
        if chosen.name != "onnx":
            raise ValueError(
                "A profile's bank is baked into ONNX graphs alone: export without --profile, and give the profile to "
                "`adaptclip detect --model EXPORT --profile PROFILE`."
            )
        profile.require_match(
            detector, "Graphs compute in float32: fit one in it (`adaptclip fit --normal PHOTOS --dtype float32`)."
        )
        view = profile.view
        if profile.acceptance is not None:
            raise ValueError(
                "This profile decides by the area of regions (an acceptance), and detect.py of an export by the score "
                "alone: export without it, and give the profile to `adaptclip detect`."
            )
        if view.region or view.ignore is not None or isinstance(view.tile, int) or view.bit_depth:
            raise ValueError(
                "This profile looks at parts of a photo (tiles, a region or a mask) or has a bit depth, and a graph "
                "takes the whole: export without it, and give the profile to `adaptclip detect`."
            )
    return model, chosen, exact


def keeps_weights(model: AdaptCLIPModel, chosen: Format, precision: str) -> bool:
    """Whether a precision loses nothing.

    ONNX in float16 loses nothing of an image encoder that was saved in float16; the adapters then stay in float32.
    """
    if precision == FLOAT16 and chosen.name == "onnx":
        weights = model.clip.vision_model.state_dict().values()
        return all(torch.equal(each, each.half().to(each.dtype)) for each in weights)
    return precision == FLOAT32


def lowered_name(chosen: Format, precision: str, images: Sequence) -> str:
    """A precision; of int8 the format and the images that calibrate too, since scores hang on both."""
    if precision != INT8:
        return precision
    calibration = hashlib.sha256("".join(pixel_digest(load_image(each)) for each in images).encode())
    return f"{precision} {chosen.name} {calibration.hexdigest()[:8]}"


def write_graphs(
    detector: AnomalyScorer,
    folder: Path,
    chosen: Format,
    precision: str,
    exact: bool,
    object_name: str,
    images: Sequence,
    begin: Report,
):
    """Traces each graph and writes all, with the configuration."""
    components: dict[str, ExportedComponent] = {}
    for graph in graphs_of(detector.model, detector.encode_text(object_name)):
        begin(f"exporting {graph.name}")
        components[graph.name] = export_graph(detector, graph, chosen, precision, exact, images)
    fields = {key: value for key, value in detector.model.config.to_dict().items() if key != "model_type"}
    config = ExportedAdaptCLIPConfig(**fields | {"object_name": object_name})
    begin("writing graphs")
    with quiet():
        ExportedModel(components, chosen.exporter_format(), config).save_pretrained(folder)


def export_graph(
    detector: AnomalyScorer, graph: Graph, chosen: Format, precision: str, exact: bool, images: Sequence
) -> ExportedComponent:
    """Traces one graph.

    Args:
        exact: of [`keeps_weights`].
    """
    quantizer, options = None, {}
    if precision == INT8 and graph.name == ENCODE:
        samples = [{"pixel_values": detector.pixel_values(load_image(image))} for image in images]
        quantizer = chosen.quantizer(samples)
    # the runtime rounds the halves to bfloat16 when it opens the graph, or takes them as they are
    halved = precision == FLOAT16 or (precision == BFLOAT16 and graph.name == ENCODE)
    if halved and chosen.name == "openvino":
        options["compress_to_fp16"] = True
    with quiet():
        exporter, settings = chosen.make_exporter()
        settings = settings(dynamic_shapes=deepcopy(graph.dynamic_shapes), quantizer=quantizer, **options)
        [component] = exporter.export(graph.module, graph.inputs, settings).components.values()
        if chosen.name == "onnx":
            from .onnx_files import halve_weights, strip

            strip(component.program)
            if precision == FLOAT16:
                halve_weights(component.program, exact)
    return component


def write_joined(folder: Path, profile: InspectionProfile | None):
    """ONNX only: joins each scoring graph to the encoding one, and adds a program that needs nothing else."""
    from .onnx_files import write_detect

    write_detect(folder, ZERO_SHOT, DETECT_ZERO_SHOT)
    write_detect(folder, FEW_SHOT, DETECT_FEW_SHOT)
    if profile is not None:
        write_detect(folder, FEW_SHOT, DETECT_PROFILE, profile.prompt_bank)
    shutil.copy(Path(__file__).with_name("standalone.py"), folder / STANDALONE)
    for module in (image_opening, image_structure):  # how STANDALONE reads images
        shutil.copy(str(module.__file__), folder)
