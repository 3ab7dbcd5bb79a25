"""One row of the course's table 2 in PyTorch: trains a Llama with random weights for one epoch, batch 1, and prints
one JSON object with its time, memory and losses.

    python3 torch_rows.py SUBJECT.json --precision mixed --lora on --checkpointing block
    python3 torch_rows.py --versions

The subject is a file of `lorikeet bench peers`. The model is that of `transformers` with adapters of `peft` where
both can be imported, else plain_llama.py's.

Precision `fp32` is float32 throughout, without TF32. `mixed` is what people do with these libraries: with LoRA the
frozen weights and the computation are bfloat16 and the adapters float32; without it all weights are float32 and the
computation is autocast to bfloat16, which needs no loss scaling.
"""

import argparse
import contextlib
import json
import os
import resource
import sys
import threading
import time

# Lorikeet's launcher hands the libraries' folders on under another name; they are read when a process starts.
if os.environ.get("LORIKEET_LIBRARY_PATH"):
    os.environ["LD_LIBRARY_PATH"] = os.environ.pop("LORIKEET_LIBRARY_PATH")
    os.execv(sys.executable, [sys.executable, *sys.argv])


def end_with_series(series, parent):
    """Ends this process with the series that started it, be it through a script: see cli/parent.ts."""
    while os.getppid() == parent:
        try:
            os.kill(series, 0)
        except ProcessLookupError:
            break
        time.sleep(0.5)
    os._exit(1)


if os.environ.get("LORIKEET_PARENT"):
    ids = int(os.environ["LORIKEET_PARENT"]), os.getppid()
    threading.Thread(target=end_with_series, args=ids, daemon=True).start()

sys.dont_write_bytecode = True
os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded

try:
    import torch
except ImportError as error:
    sys.exit(f"error: PyTorch can't be imported: {error}")
try:
    import peft
    import transformers
except (ImportError, RuntimeError):  # transformers raises both
    peft = transformers = None

MB = 2**20


def versions():
    """What computes, and on which GPU."""
    return {
        "implementation": "plain PyTorch" if peft is None else "transformers and peft",
        "torch": torch.__version__,
        "transformers": transformers and transformers.__version__,
        "peft": peft and peft.__version__,
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def from_transformers(subject, flags, dtype):
    """The model of `transformers`, and what gives the loss of ids and labels."""
    config = subject["config"]
    kind = getattr(transformers, config["architectures"][0])
    torch.set_default_dtype(dtype)
    with torch.device(subject["device"]):
        model = kind(kind.config_class.from_dict(config))
    torch.set_default_dtype(torch.float32)
    if flags.checkpointing == "block":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if flags.lora == "on":
        lora = subject["lora"]
        names = {"r": lora["rank"], "lora_alpha": lora["alpha"], "lora_dropout": lora["dropout"]}
        model = peft.get_peft_model(model, peft.LoraConfig(target_modules=lora["targets"], **names))
        for parameter in model.parameters():
            if parameter.requires_grad:  # older releases of peft leave adapters in the weights' dtype
                parameter.data = parameter.data.float()
    return model, lambda ids, labels: model(input_ids=ids, labels=labels, use_cache=False).loss


def from_plain(subject, flags, dtype):
    """The same of plain_llama.py."""
    from plain_llama import Llama, add_adapters

    config = subject["config"]
    for key in ("rope_scaling", "sliding_window"):
        if config.get(key) is not None:
            sys.exit(f"error: a model with {key} needs transformers and peft, which can't be imported")
    model = Llama(config, flags.checkpointing == "block", subject["device"], dtype)
    if flags.lora == "on":
        add_adapters(model, **subject["lora"])
    return model, model


def windows(subject, steps):
    """The optimizer steps of the epoch: lists of micro-batches, which are ids and labels."""
    samples = []
    for sample in subject["samples"]:
        ids = sample["ids"]
        masked = [-100] * sample["prompt_length"] + ids[sample["prompt_length"] :]
        samples.append(torch.tensor([[ids], [masked]], device=subject["device"]))
    return [samples[i : i + steps] for i in range(0, len(samples), steps)]


def run_step(loss_of, optimizer, window, autocast):
    """Forward and backward of every micro-batch, then the update; gives the losses, for which it waits."""
    losses = []
    for ids, labels in window:
        with autocast():
            loss = loss_of(ids, labels)
        (loss / len(window)).backward()
        losses.append(loss.detach())
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return torch.stack(losses).tolist()


def resident_peak():
    """The most memory that the process had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def train(subject, flags):
    device, mixed = subject["device"], flags.precision == "mixed"
    torch.set_float32_matmul_precision("highest")  # without TF32, whatever the environment says
    torch.manual_seed(subject["seed"])
    before = resident_peak()
    build = from_plain if peft is None else from_transformers
    half = mixed and flags.lora == "on"
    model, loss_of = build(subject, flags, torch.bfloat16 if half else torch.float32)
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def autocast():
        return torch.autocast(device, dtype=torch.bfloat16, enabled=mixed and not half)

    # The clock starts after a first step that has no effect: what is loaded and chosen at first use is there then.
    if flags.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=0.0)
    else:
        rest = {key: subject[key] for key in ("betas", "eps", "weight_decay")}
        optimizer = torch.optim.AdamW(parameters, lr=0.0, **rest)
    steps = windows(subject, flags.gradient_accumulation_steps)
    run_step(loss_of, optimizer, steps[0], autocast)
    optimizer.state.clear()
    for group in optimizer.param_groups:
        group["lr"] = subject["learning_rate"]
    losses, seconds = [], []
    for window in steps:
        start = time.perf_counter()
        losses += run_step(loss_of, optimizer, window, autocast)
        seconds.append(time.perf_counter() - start)
    if device == "cpu":
        memory = {"peak_memory_mb": (resident_peak() - before) / MB}
    else:
        memory = {
            "peak_memory_mb": torch.cuda.max_memory_allocated() / MB,
            "reserved_mb": torch.cuda.max_memory_reserved() / MB,
        }
    return {"fits": True, **memory, "losses": losses, "step_seconds": seconds}


def wants_memory(error):
    """Whether an error says that there is too little memory, on a GPU or a CPU."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def run(flags):
    if flags.versions:
        return versions()
    try:
        with open(flags.subject) as file:
            subject = json.load(file)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {flags.subject}: {error}; expected a subject that `lorikeet bench peers` wrote")
    try:
        return {**versions(), **train(subject, flags)}
    except (MemoryError, RuntimeError) as error:
        if not wants_memory(error):
            raise
        return {**versions(), "fits": False}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("subject", nargs="?", help="model, samples and settings that all rows share, as JSON")
    parser.add_argument("--versions", action="store_true", help="only print what would compute")
    parser.add_argument("--gradient-accumulation-steps", type=int, default=8)
    parser.add_argument("--precision", choices=["fp32", "mixed"], default="mixed")
    parser.add_argument("--lora", choices=["on", "off"], default="on")
    parser.add_argument("--checkpointing", choices=["none", "block"], default="none")
    parser.add_argument("--optimizer", choices=["adamw", "sgd"], default="adamw")
    flags = parser.parse_args()
    if flags.subject is None and not flags.versions:
        parser.error("expected a subject's file, or --versions")
    with contextlib.redirect_stdout(sys.stderr):  # what libraries print is not the result
        result = run(flags)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
