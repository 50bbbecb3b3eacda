"""`adaptclip serve`: products behind HTTP, on FastAPI and uvicorn."""
