"""`adaptclip data`: lists what a data set holds and what is wrong with it."""

import argparse


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "data",
        help="list and check data sets",
        description="Lists what anomaly data sets hold, category by category, and names what is missing or broken.",
        epilog="""A spec is LAYOUT:FOLDER, or a folder whose layout can be recognised:
  mvtec, mpdd, dtd-synthetic, btad   CATEGORY/train/good, test/good, test/DEFECT, ground_truth/DEFECT/*_mask.png
  mvtec-3d                           the same with rgb/ and gt/ in each folder; the colour images
  mvtec-ad-2                         test_public/good, bad and ground_truth/bad; private images have no labels
  mvtec-loco, autovi                 a folder of masks for each image, ground_truth/DEFECT/000/*.png
  lookout                            *.manifest of Amazon Lookout for Vision; the images of its bucket are in the folder
  visa                               split_csv/1cls.csv beside the categories
  real-iad, real-iad-variety         realiad_jsons/CATEGORY.json beside realiad_1024 (or another resolution)
  ksdd                               kos01/Part0.jpg and Part0_label.bmp; every fourth good image is used for testing
  br35h                              no/ and yes/
  covid                              NORMAL/ and COVID-19/
  kvasir, endo                       images/ and masks/, or Original/ and Ground Truth/
  meta                               meta.json of AnomalyCLIP-style programs
  folder                             good/ and bad/, optionally masks/; every other good image is used to compare with
                                     (or ok, normal, pass, ...; ng, defect, reject, ...; also in train/ and test/)
  hub:OWNER/NAME                     a Hub data set with columns image and label, optionally mask, category, split

examples:
  adaptclip data mvtec:/data/mvtec_ad
  adaptclip data parts/ --check""",
    )
    parser.add_argument("specs", nargs="+", metavar="SPEC", help="data sets")
    parser.add_argument("--check", action="store_true", help="open every image and mask (minutes for large sets)")
    return parser


def run(args: argparse.Namespace) -> int:
    from ..data import load_data_set
    from ..data.checking import drop_unreadable
    from ..data.summary import describe

    problems: list[str] = []
    for spec in args.specs:
        dataset = load_data_set(spec, problems.append)
        if args.check:
            dataset = drop_unreadable(dataset, problems.append)
        print(f"{spec}\n{describe(dataset)}\n")
    for line in problems:
        print(f"! {line}")
    return 1 if problems else 0
