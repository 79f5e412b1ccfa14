"""What the help of each command ends with: commands that can be typed as they stand."""

# By the command's words; each example is what follows them.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "": ("run --methods triplet,ms,group", "report"),
    "run": (
        "--methods triplet,ms,group",
        "--datasets things --root data --methods triplet,ms",
        "shoes.toml --seeds 5 --max-hours 3.9",
    ),
    "plan": ("--methods triplet,ms --seeds 5", "shoes.toml", "--detect 1 --out runs"),
    "list": ("", "methods"),
    "tables": ("", "--out runs --format md"),
    "report": ("", "--out runs --figures"),
    "data": ("list", "prepare folder:photos --root data --name things"),
    "data list": ("--root data",),
    "data prepare": (
        "folder:photos --root data --name things",
        "csv:photos.csv --root data",
        "cub200 --root data --archive CUB_200_2011.tgz",
    ),
    "data check": ("things --root data",),
    "reproduce": (
        "--dataset cub200 --out runs-cub",
        "--table best-hyperparameters --dataset sop",
    ),
    "submit": ("runs --methods ms",),
    "rerun": ("results/quick/emoji/ms --out runs-again",),
    "verify": ("results", "results --since main"),
    "site": ("results --to site",),
    "sync": ("--out runs",),
    "ui": ("--out runs --port 5001",),
    "export": ("ms --to winner.onnx", "ms/seed-0/fold-1 --out runs --to fold.safetensors"),
    "embed": ("winner.onnx photos --to photos.npy",),
    "index": ("winner.onnx photos --to gallery",),
    "search": ("gallery queries --top 5",),
    "evaluate": (
        "winner.onnx photos",
        "photos.npy --labels photos.csv",
        "winner.onnx --into runs --name peer",
    ),
    "check": ("ms", "my_loss.py", "lora8:tiny"),
    "merge": ("runs-a runs-b --out runs",),
    "remove": ("horde --out runs",),
    "clean": ("", "--out runs --yes"),
    "doctor": ("", "--out runs --root data"),
    "new-study": ("shoes.toml --protocol photos",),
    "new-method": ("my_loss --folder methods",),
}
