"""The answers that an image may get, and the reason of most."""

NORMAL, ANOMALOUS, NOT_INSPECTABLE = "normal", "anomalous", "not inspectable"
SCORE = "score"  # why an image is anomalous whose score alone was looked at
