"""Trains the adapters on a data set with your own loop under Accelerate.

python examples/train_with_accelerate.py --data parts/ --output adaptclip-parts
accelerate launch --num_processes 2 examples/train_with_accelerate.py --data parts/ --output adaptclip-parts
"""

import argparse

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from adaptclip_hf import DEFAULT_MODEL
from adaptclip_hf.ablations import TABLE_5
from adaptclip_hf.data import load_data_set
from adaptclip_hf.training import PromptedImages, collate_prompted
from adaptclip_hf.training.batch_norm import synchronize_batch_norm
from adaptclip_hf.training.train import build_model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder or LAYOUT:FOLDER, see `adaptclip data --help`")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or Hub id of an AdaptCLIP model or a CLIP")
    parser.add_argument("--output", required=True)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()

    accelerator = Accelerator()
    torch.manual_seed(0)
    # fresh adapters on its CLIP
    model, processor = build_model(args.model, TABLE_5["full"], keep_adapters=False)
    if accelerator.num_processes > 1:
        synchronize_batch_norm(model)
    images = PromptedImages(load_data_set(args.data), processor)
    loader = DataLoader(images, args.batch_size, shuffle=True, collate_fn=collate_prompted, drop_last=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3, betas=(0.5, 0.999))
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    model.train()
    for epoch in range(args.epochs):
        images.set_epoch(epoch)  # draws other normal images to compare with
        for batch in loader:
            output = model(**batch)
            accelerator.backward(output.loss)
            optimizer.step()
            optimizer.zero_grad()
        losses = ", ".join(f"{name} {loss.item():.3f}" for name, loss in output.losses.items())
        accelerator.print(f"epoch {epoch + 1}: loss {output.loss.item():.3f} ({losses})")

    if accelerator.is_main_process:
        accelerator.unwrap_model(model).save_pretrained(args.output)
        processor.save_pretrained(args.output)


if __name__ == "__main__":
    main()
