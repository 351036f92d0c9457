"""The consumer that fits on a card: code for one file, without darts_ray."""

from __future__ import annotations

from darts_ray.export.consumer.contract import ModelMetadata, PictureRule

_TEXT = """\
import json, re, numpy as np, onnxruntime as ort
session = ort.InferenceSession("{file}", providers=["CPUExecutionProvider"])
words = json.loads(session.get_modelmeta().custom_metadata_map["darts.class_names"])
text = open("text.txt", encoding="utf-8").read(){lower}
numbers = {{word: number for number, word in enumerate(words)}}
parts = re.split({separator!r}, text.removesuffix("\\n"))
found = [word for part in parts for word in re.findall({pattern!r}, part) + [{end!r}]]
tokens = np.array([[numbers.get(word, numbers.get({unknown!r}))] for word in found])
hidden = np.zeros((1, 1, session.get_inputs()[1].shape[2]), np.float32)
log_probs, hidden = session.run(None, {{"tokens": tokens, "hidden": hidden}})
print("perplexity", np.exp(-np.mean([log_probs[i, 0, t] for i, t in enumerate(tokens[1:, 0])])))
print("next word", words[int(log_probs[-1, 0].argmax())])
"""


def snippet(metadata: ModelMetadata, file: str) -> str:
    """Return at most 15 lines of Python that use a file with onnxruntime, numpy and Pillow.

    It reads `picture.png` (a language model: `text.txt`) and prints what the network says.
    `OnnxNetwork` does the same with checks of what it is given.

    Args:
        metadata: of the file.
        file: its name.
    """
    if metadata.text is not None:
        rule = metadata.text
        return _TEXT.format(
            file=file,
            lower=".lower()" if rule.lowercase else "",
            separator=r"\n" if rule.unit == "line" else r"\n\s*\n",
            pattern=rule.pattern,
            end=rule.end,
            unknown=rule.unknown,
        )
    mode = "RGB" if metadata.color == "RGB" else "L"
    lines = [
        "import json, numpy as np, onnxruntime as ort",
        "from PIL import Image",
        f'session = ort.InferenceSession("{file}", providers=["CPUExecutionProvider"])',
        'names = json.loads(session.get_modelmeta().custom_metadata_map["darts.class_names"])',
        f'image = Image.open("picture.png").convert("{mode}")',
        *_geometry(metadata.pictures or PictureRule()),
        "pixels = np.asarray(image)[None]  # (1, height, width[, channels]), bytes",
    ]
    if mode == "L":
        lines.append("pixels = pixels[..., None]")
    if metadata.dtype != "uint8":
        lines.append("pixels = (pixels.transpose(0, 3, 1, 2) / 255).astype(np.float32)  # 0..1")
    lines.append('(outputs,) = session.run(None, {"images": pixels})')
    if metadata.output == "logits":
        lines.append("outputs = np.exp(outputs - outputs.max()); outputs /= outputs.sum()")
    lines.append("print(names[int(outputs[0].argmax())], float(outputs[0].max()))")
    return "\n".join(lines) + "\n"


def _geometry(rule: PictureRule) -> list[str]:
    """Return the lines that bring a picture to the network's size."""
    if rule.size is None or rule.resize == "none":
        return []
    height, width = rule.size
    if rule.resize == "stretch":
        return [f"image = image.resize(({width}, {height}), Image.Resampling.BILINEAR)"]
    return [
        f"scale = {height} * 256 / 224 / min(image.size)",
        f"sides = [max({height}, round(side * scale)) for side in image.size]",
        "image = image.resize(sides, Image.Resampling.BILINEAR)",
        f"x, y = (sides[0] - {width}) // 2, (sides[1] - {height}) // 2",
        f"image = image.crop((x, y, x + {width}, y + {height}))",
    ]
