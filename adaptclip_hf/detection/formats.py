"""The formats in which `adaptclip detect` writes its results beside `results.jsonl`; imports nothing heavy."""

JSONL, CSV, PARQUET, COCO, LABEL_STUDIO = "jsonl", "csv", "parquet", "coco", "label-studio"
# the file of each, in the folder of results
FORMAT_FILES = {
    JSONL: "results.jsonl",
    CSV: "results.csv",
    PARQUET: "results.parquet",
    COCO: "coco.json",
    LABEL_STUDIO: "label-studio.json",
}
FORMATS = tuple(FORMAT_FILES)
