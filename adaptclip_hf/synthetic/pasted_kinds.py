"""The kinds of defects that are pasted on photos, and how clear they are; imports nothing."""

SCRATCH, HOLE, STAIN, FOREIGN_BODY, MISPLACED_PIECE = PASTED_KINDS = (
    "scratch",
    "hole",
    "stain",
    "foreign body",
    "misplaced piece",
)
CONTRASTS = {"clear": 0.4, "faint": 0.12}  # the difference to what lies beneath, of the range from black to white
