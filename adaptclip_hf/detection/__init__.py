"""`adaptclip detect`: any number of images into a folder of results that goes on after a stop."""
