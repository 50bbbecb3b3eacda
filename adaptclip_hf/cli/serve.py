"""`adaptclip serve`: products behind HTTP."""

import argparse
from pathlib import Path

from .argument_types import PROFILES_MODEL, add_address_arguments, add_model_arguments, load_detector, positive

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN, ADMIN_TOKEN = "ADAPTCLIP_API_TOKEN", "ADAPTCLIP_ADMIN_TOKEN"


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "serve",
        help="answer over HTTP",
        description="Scores images that come by HTTP, and decides by the profiles of any number of products. Needs "
        "`pip install 'adaptclip-hf[serve]'`.",
        epilog=f"""examples:
  adaptclip serve --profile bottle=bottle/ --profile board=me/board-profile
  adaptclip serve                                                zero-shot, scores alone
  curl -F image=@part.png -F product=bottle http://127.0.0.1:8000/detect
  curl -F image=@part.png -F product=bottle -F include=overlay http://127.0.0.1:8000/detect

POST /detect takes a form (image, product, include) or JSON (the image in base64) and answers score, p_value, label and
regions; include=map or include=overlay adds them as PNG. GET /health, /metrics (for Prometheus), /products; /docs
shows them all. With one product its name may be left out. Images of several products are scored together.

{TOKEN} in the environment: every request but /health needs it, as `Authorization: Bearer TOKEN`.
{ADMIN_TOKEN}: with it products are added, replaced and removed while the service runs:
  curl -X PUT -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8000/products/bottle \\
    -F files=@bottle/profile.json -F files=@bottle/features-....safetensors

An image that cannot be read is answered with 422 and the reason, one image too many with 503. After SIGTERM the service
answers what it has accepted and ends.""",
    )
    parser.add_argument(
        "--profile",
        action="append",
        type=named_profile,
        default=[],
        metavar="NAME=FOLDER|ID",
        help="a product's name and its profile, of `adaptclip fit`; any number of times",
    )
    parser.add_argument(
        "--products", type=Path, metavar="FOLDER", help="keep products here that are added while the service runs"
    )
    add_model_arguments(parser, None, f"the first {PROFILES_MODEL.removeprefix('the ')}", chooses_dtype=True)
    parser.add_argument("--backend", choices=("torch", "onnx", "openvino"), help="what the model must be made for")
    add_address_arguments(parser, 8000)
    parser.add_argument("--workers", type=positive, help="threads that score, sharing one model (on a CPU one a core)")
    parser.add_argument(
        "--batch-size", type=positive, help="at most this many images are scored together (8; on a CPU 1)"
    )
    parser.add_argument(
        "--waiting", type=positive, default=128, help="at most this many images are accepted at a time (128)"
    )
    parser.add_argument(
        "--memory",
        type=positive,
        default=1200,
        metavar="MEGABYTES",
        help="that images take while they are decoded and drawn; further ones wait (1200)",
    )
    parser.add_argument("--megabytes", type=positive, default=20, help="size limit of a request (20)")
    parser.add_argument("--megapixels", type=positive, default=64, help="size limit of an image (64)")
    return parser


def named_profile(text: str) -> tuple[str, str]:
    name, equals, profile = text.partition("=")
    if not (name and equals and profile):
        raise argparse.ArgumentTypeError(f"expected NAME=PROFILE, such as bottle=bottle/, got {text}")
    return name, profile


def run(args: argparse.Namespace) -> int:
    import logging
    import os
    import sys

    try:
        import uvicorn

        from ..serving.app import ServiceSettings, make_app
        from ..serving.connections import Connection, accepted_at_once, raise_file_limit
        from ..serving.limits import MEGA, Limits
        from ..serving.products import Products
        from ..serving.seldom import Seldom
    except ImportError as error:
        raise ValueError(f"`adaptclip serve` needs `pip install 'adaptclip-hf[serve]'` ({error}).") from error
    from ..inspection import InspectionProfile

    profiles = dict(args.profile)
    if len(profiles) < len(args.profile):
        args.parser.error("two --profile have the same name")
    first = InspectionProfile.from_pretrained(args.profile[0][1]) if args.profile else None
    detector = load_detector(args, first, backend=args.backend)
    limits = Limits(args.waiting, args.memory * MEGA, body=args.megabytes * MEGA, pixels=args.megapixels * MEGA)
    tokens = {"token": os.environ.get(TOKEN) or None, "admin_token": os.environ.get(ADMIN_TOKEN) or None}
    settings = ServiceSettings(args.workers, args.batch_size, limits, **tokens)
    products = Products(detector, profiles, args.products)
    for name, reason in products.skipped.items():
        print(f"{args.products}: {name} is skipped: {reason}", file=sys.stderr)
    app = make_app(detector, products, settings)
    if args.host not in LOOPBACK and settings.token is None:
        print(f"{TOKEN} is not set: anyone who reaches {args.host}:{args.port} can use this service.")
    raise_file_limit()
    logging.getLogger("uvicorn.error").addFilter(Seldom())
    uvicorn.run(
        app,
        host=args.host,
        port=args.port,
        http=Connection,
        ws="none",
        loop="asyncio",
        backlog=accepted_at_once(),
        log_level="info",
        access_log=False,
        server_header=False,
    )
    return 0
