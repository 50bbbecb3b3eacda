"""Trains the adapters on a data set with transformers' own Trainer.

python examples/train_with_trainer.py --data parts/ --output adaptclip-parts
"""

import argparse

import torch
from transformers import Trainer, TrainingArguments

from adaptclip_hf import DEFAULT_MODEL
from adaptclip_hf.ablations import TABLE_5
from adaptclip_hf.data import load_data_set
from adaptclip_hf.training import PromptedImages, collate_prompted
from adaptclip_hf.training.train import build_model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder or LAYOUT:FOLDER, see `adaptclip data --help`")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or Hub id of an AdaptCLIP model or a CLIP")
    parser.add_argument("--output", required=True)
    parser.add_argument("--epochs", type=float, default=15)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()

    # fresh adapters on its CLIP
    model, processor = build_model(args.model, TABLE_5["full"], keep_adapters=False)
    # queries of the test split, each with a normal image of its category, which changes every epoch
    images = PromptedImages(load_data_set(args.data), processor)
    recipe = TrainingArguments(
        args.output,
        num_train_epochs=args.epochs,
        per_device_train_batch_size=args.batch_size,
        learning_rate=1e-3,
        adam_beta1=0.5,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        remove_unused_columns=False,
        dataloader_drop_last=True,  # batch norm cannot learn from a batch of one
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    trainer = Trainer(model, recipe, train_dataset=images, data_collator=collate_prompted)
    trainer.train()
    trainer.save_model()
    processor.save_pretrained(args.output)


if __name__ == "__main__":
    main()
