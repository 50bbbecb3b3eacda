"""`adaptclip detect --engine ray`: any number of images of any place, scored into Parquet files by many processes."""
