"""Many images in, a row for each out; a run that stops goes on where it was. This is `adaptclip detect`."""
