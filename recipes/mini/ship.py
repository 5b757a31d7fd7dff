"""Copy what the recipes made into the package, half precision, safetensors only, and say how large it is.

Command:   python recipes/mini/ship.py
Hardware:  any; needs the finished recipes' folders under build/mini
Result:    src/vernissage/mini/{general,early,loras,clip,dinov2,mllm,recogniser,judge}
"""

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from pictures import BUILD

TARGET = Path("src/vernissage/mini")
FOLDERS = {
    "general": "general",
    "early/unet": "early/unet",
    "early/text_encoder": "early/text_encoder",
    "loras": "loras",
    "clip": "clip",
    "dinov2": "dinov2",
    "mllm": "mllm",
    "recogniser": "recogniser",
    "judge": "judge",
}


def main() -> None:
    for source, target in FOLDERS.items():
        if not (BUILD / source).exists():
            print(f"{source}: not made yet, left as it is")
            continue
        shutil.rmtree(TARGET / target, ignore_errors=True)
        shutil.copytree(BUILD / source, TARGET / target, ignore=shutil.ignore_patterns("training", "recipe.json", "*.log"))
    judge = TARGET / "judge" / "judge.safetensors"
    if judge.exists():  # trained and saved in single precision
        save_file({name: tensor.half() for name, tensor in load_file(judge).items()}, judge)
    sizes = {path: path.stat().st_size for path in TARGET.rglob("*.safetensors")}
    for path, size in sorted(sizes.items()):
        path.chmod(0o644)
        print(f"{size / 1e6:6.2f} MB  {path.relative_to(TARGET)}")
    print(f"{sum(sizes.values()) / 1e6:6.2f} MB  in all; 60 MB are allowed")


if __name__ == "__main__":
    main()
