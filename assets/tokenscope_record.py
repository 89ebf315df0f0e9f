#!/usr/bin/env python3
"""Records one run of a `transformers` model as a trace, which Tokenscope opens without the weights.

    from tokenscope_record import record

    with record(model, tokenizer, "run.trace"):
        model(**inputs)

or, as a reference for `tokenscope verify`:

    python tokenscope_record.py --model DIR --prompt "A text" --out reference.trace

Needs torch, transformers and safetensors, and knows no model by name. Layers are lists of modules that hold attention.
What a layer adds to its stream, and the scores of attention with what made them, are watched as torch is asked for
them, so eager attention, scaled_dot_product_attention and functions registered with transformers are all read. What is
computed and returned is the model's own: values are copied (to the CPU, as float32), nothing is replaced, and all
hooks are gone when the block ends, also by an exception. What was not found is printed, and stands in the file's notes.
The first call inside the block is recorded; of a batch, row `item`.
"""
import argparse
import json
import os
import re
import sys

import numpy
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.overrides import TorchFunctionMode

KEY, VERSION = "tokenscope_trace", 2
# Scores below this are masks, whichever number a model takes for them.
HIDDEN = -9000.0
# Logits of all rows are kept up to this size, in bytes.
MAX_LOGITS = 1 << 28
# Entries of listed masks in one file; headers have a limit.
MAX_LISTED = 6_000_000
# Pictures that run through an encoder as a batch.
MAX_TILES = 256
# Experts of a layer at most.
MAX_EXPERTS = 4096
ATTENTION = re.compile(r"attn|attention", re.I)
CROSS = re.compile(r"cross|encoder_attn|encdec|enc_dec", re.I)
MLP = re.compile(r"mlp|ffn|feed_?forward|^ff|^fc|moe|expert|intermediate|^output$", re.I)
VISION = re.compile(r"vis|image|img|pixel", re.I)
JOINT = re.compile(r"projector|projection|merger|connector|aligner|modality", re.I)
MATMUL = {"matmul", "__matmul__", "__rmatmul__", "bmm", "baddbmm", "einsum"}
ADD = {"add", "__add__", "__radd__", "add_", "__iadd__"}
TIMES = {"mul", "__mul__", "__rmul__", "mul_", "__imul__", "multiply"}
OVER = {"div", "__truediv__", "div_", "__itruediv__", "true_divide", "divide"}
# What changes neither scores nor shares but for masks: their form, their type, what is hidden.
KEEPS = {
    "view", "reshape", "to", "float", "half", "bfloat16", "type", "type_as", "contiguous", "clone", "detach", "dropout",
    "masked_fill", "masked_fill_", "where", "max", "maximum", "clamp", "unsqueeze", "squeeze", "flatten", "unflatten",
    "nan_to_num", "expand", "alias",
}


def on_host(t):
    """A copy as float32 on the CPU."""
    return t.detach().to("cpu", torch.float32, copy=True)


def first_of(out):
    """The tensor of what a module returns."""
    if isinstance(out, torch.Tensor):
        return out
    if isinstance(out, (tuple, list)):
        return first_of(out[0]) if out else None
    return getattr(out, "last_hidden_state", None)


def number(x):
    """A factor: a plain number, or a tensor of one."""
    if isinstance(x, (int, float)) and not isinstance(x, bool):
        return float(x)
    if isinstance(x, torch.Tensor) and x.numel() == 1:
        return float(x.detach())
    return None


class Scores:
    """How a tensor of scores came about: `cap · tanh(scale · q · k / cap)`, and what was added."""

    def __init__(self, q, k, scale=1.0, added=()):
        self.q, self.k, self.scale, self.added = q, k, scale, list(added)
        self.cap, self.inner, self.odd, self.sink = None, None, False, False

    def times(self, by):
        if self.inner is not None:
            # Behind the tanh: the factor is the cap.
            self.cap = by * (1.0 if self.cap is None else self.cap)
        else:
            self.scale *= by
        self.added = [(t, f * by) for t, f in self.added]

    def tanh(self):
        self.odd |= bool(self.added) or self.inner is not None
        self.inner, self.cap = self.scale, 1.0

    def final(self):
        """Scale and cap of the whole."""
        return (self.scale, None) if self.inner is None else (self.inner * self.cap, self.cap)


class Frame:
    """A layer that is running."""

    def __init__(self, stack, tile, layer, x):
        self.stack, self.tile, self.layer, self.x = stack, tile, layer, x
        self.shape, self.rows = tuple(x.shape), stack.n
        self.batch = 1 if x.dim() == 2 else x.shape[1] if stack.turned else x.shape[0]
        self.stream, self.normed, self.adds, self.children = {id(x): x}, {}, [], []
        self.scores, self.shares, self.found, self.alive = {}, {}, [], []
        # The last map to so many values, and what was chosen of them for each row.
        self.maps, self.chosen = {}, None

    def counts(self, t):
        """Whether a tensor has some values for each row of the batch, and nothing else."""
        return t.dim() > 1 and t.numel() == self.batch * self.rows * t.shape[-1]

    def fits(self, t):
        """Whether a tensor may be the stream in this or another form: some layers flatten the batch."""
        return tuple(t.shape) == self.shape or (
            t.dim() > 1 and t.shape[-1] == self.shape[-1] and t.numel() == self.x.numel())


class Stack:
    """A list of layers, and what was kept of it."""

    def __init__(self, name, layers):
        self.name, self.layers = name, layers
        self.order = {id(m): i for i, m in enumerate(layers)}
        self.start()

    def start(self):
        self.arrays, self.rules, self.last, self.final, self.norm_seen = {}, {}, None, {}, False
        self.tile, self.layer, self.before, self.shape, self.n, self.width = 0, -1, -1, None, 0, 0
        # `turned`: rows come before the batch.
        self.is_text, self.turned, self.lost = False, False, {}
        # Attention to another sequence, by layer.
        self.cross = {}

    def n_layers(self):
        return 1 + max((k[1] for k in self.arrays), default=-1)

    def lose(self, what, layer):
        self.lost.setdefault(what, []).append(layer)


class Watch(TorchFunctionMode):
    """Sees what torch is asked for while a layer runs."""

    def __init__(self, of):
        super().__init__()
        self.of = of

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name, of = kwargs or {}, getattr(func, "__name__", ""), self.of
        if name == "__get__" or of.busy or not of.frames:
            return func(*args, **kwargs)
        seen = of.safely(of.before, name, args, kwargs)
        out = func(*args, **kwargs)
        of.safely(of.after, name, args, kwargs, out, seen)
        return out


class record:
    """Records the first call of `model` inside the block to `path`.

    `tokenizer` names tokens; `text` says which text it read, where that is known. `image` is the picture (a path or a
    PIL image) and `processor` what prepared it; `grid` (rows, columns) and `box` (x, y, width, height in pixels of the
    picture) say where its tokens lie if that cannot be found. `logits` is "all", "last", "none", or "auto" for all that
    fit 256 MB. `stack` is a part of the name of the layers to keep as the text's, as in "encoder".
    """

    def __init__(self, model, tokenizer=None, path="run.trace", *, image=None, processor=None, text=None, logits="auto",
                 item=0, stack=None, grid=None, box=None):
        if logits not in ("auto", "all", "last", "none"):
            raise ValueError(f"logits={logits!r}: auto, all, last or none")
        self.model, self.tokenizer, self.path, self.processor = model, tokenizer, os.fspath(path), processor
        self.text, self.logits, self.item, self.wanted, self.grid, self.box = text, logits, item, stack, grid, box
        if isinstance(image, (str, os.PathLike)):
            from PIL import Image

            image = Image.open(image)
        self.image = image.convert("RGB") if image is not None else None
        self.frames, self.notes, self.handles, self.wrapped = [], [], [], []
        self.busy, self.running, self.done, self.calls, self.worst, self.listed = False, False, False, 0, 0.0, 0
        self.names, self.inputs, self.output, self.features, self.pending = [], {}, None, None, None
        # Whether there is a file.
        self.written = False

    # What the user sees.

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def __enter__(self):
        self.stacks = find_stacks(self.model)
        if not self.stacks:
            raise ValueError("no list of layers was found in this model, so nothing can be recorded")
        try:
            self.hook()
        except BaseException:
            self.restore()
            raise
        self.mode = Watch(self)
        self.mode.__enter__()
        return self

    def __exit__(self, kind, error, trace):
        self.mode.__exit__(kind, error, trace)
        self.restore()
        if kind is not None:
            return False
        if not self.done:
            raise RuntimeError("the model was not called inside the block, so nothing was recorded")
        if self.calls > 1:
            self.note(f"the model was called {self.calls} times; the first call is recorded")
        self.write()
        return False

    def restore(self):
        """Takes every hook away."""
        for handle in self.handles:
            handle.remove()
        for registry, key, own in self.wrapped:
            registry[key] = own
        self.handles, self.wrapped, self.frames = [], [], []

    def safely(self, work, *args):
        """Looks on; whatever goes wrong here is a note and never the model's problem."""
        self.busy = True
        try:
            with torch.no_grad():
                return work(*args)
        except Exception as e:  # noqa: BLE001
            self.note(f"the recorder failed in {work.__name__}: {type(e).__name__}: {e}")
            return None
        finally:
            self.busy = False

    # Hooks.

    def look(self, work, *args):
        """What a hook does: it gives nothing back, because what a hook returns would stand for what was computed."""
        self.safely(work, *args)

    def hook(self):
        m = self.model
        signature = dict(with_kwargs=True)
        self.handles.append(m.register_forward_pre_hook(lambda _, a, k: self.look(self.call, a, k), **signature))
        self.handles.append(m.register_forward_hook(lambda _, a, k, out: self.look(self.returned, out), **signature))
        layers = {}
        for stack in self.stacks:
            for layer in stack.layers:
                layers[id(layer)] = stack
        for name, module in m.named_modules():
            kind = type(module).__name__
            if id(module) in layers:
                stack = layers[id(module)]
                enter = lambda mod, a, k, s=stack: self.look(self.enter, s, mod, a, k)
                self.handles.append(module.register_forward_pre_hook(enter, **signature))
                self.handles.append(module.register_forward_hook(lambda mod, a, out: self.look(self.leave, out)))
                for child, part in module.named_children():
                    kept = lambda mod, a, out, n=child: self.look(self.child, n, type(mod).__name__, out)
                    self.handles.append(part.register_forward_hook(kept))
            elif "norm" in kind.lower():
                self.handles.append(module.register_forward_hook(lambda mod, a, out: self.look(self.norm, a, out)))
            if ATTENTION.search(kind):
                own = name.rsplit(".", 1)[-1] + " " + kind
                self.handles.append(module.register_forward_pre_hook(lambda mod, a, n=own: self.look(self.names.append, n)))
                self.handles.append(module.register_forward_hook(lambda mod, a, out: self.look(self.names.pop)))
            if JOINT.search(name.rsplit(".", 1)[-1]) and name.count(".") <= 2:
                self.handles.append(module.register_forward_hook(lambda mod, a, out: self.look(self.joint, out)))
        self.wrap()

    def wrap(self):
        """Looks at what registered attention functions are given, for those that torch does not see inside."""
        try:
            from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as known
        except ImportError:
            return
        registry = getattr(known, "_global_mapping", known)
        for key, own in list(registry.items()):
            if key in ("sdpa", "eager"):
                continue

            def given(module, query, key, value, attention_mask=None, *args, _own=own, **kwargs):
                before = len(self.frames[-1].found) if self.frames else 0
                out = _own(module, query, key, value, attention_mask, *args, **kwargs)
                if self.frames and len(self.frames[-1].found) == before:
                    self.safely(self.of_function, module, (query, key, value), attention_mask, args, kwargs, out)
                return out

            self.wrapped.append((registry, key, own))
            registry[key] = given

    def call(self, args, kwargs):
        """The model is called."""
        self.calls += 1
        if self.done:
            return
        self.running, self.frames, self.names = True, [], []
        self.worst, self.listed, self.features = 0.0, 0, None
        for stack in self.stacks:
            stack.start()
        self.inputs = dict(kwargs)
        if args and isinstance(args[0], torch.Tensor):
            self.inputs.setdefault(getattr(self.model, "main_input_name", "input_ids"), args[0])
        self.ids = self.inputs.get("input_ids")
        if self.ids is None:
            self.ids = self.inputs.get("decoder_input_ids")
        elif self.inputs.get("decoder_input_ids") is not None and not (self.wanted and "enc" in self.wanted):
            self.ids = self.inputs["decoder_input_ids"]

    def returned(self, out):
        """The model is through."""
        if self.running:
            self.output, self.running, self.done, self.frames = out, False, True, []
            self.keep_output()

    def enter(self, stack, module, args, kwargs):
        given = args[0] if args and isinstance(args[0], torch.Tensor) else kwargs.get("hidden_states")
        if not self.running:
            return
        x = self.as_rows(given)
        if x is None:
            stack.lose("its input, which is no stream of rows", 0)
            return
        i = stack.order[id(module)]
        if stack.layer < 0:
            stack.shape, of = tuple(x.shape), tuple(self.ids.shape) if self.ids is not None else ()
            stack.turned = x.dim() == 3 and stack.shape[:2] == of[::-1] != of
            text = x.dim() == 3 and (stack.shape[:2] == of or stack.turned)
            stack.is_text = text and not VISION.search(stack.name)
            stack.n, stack.width = stack.shape[0 if stack.turned else -2], stack.shape[-1]
        if i < stack.before and not stack.is_text:
            stack.tile, stack.layer = stack.tile + 1, -1
        stack.before, stack.layer = i, stack.layer + 1
        if tuple(x.shape) != stack.shape:
            stack.lose("rows whose number or width changes between layers", stack.layer)
        frame = Frame(stack, stack.tile, stack.layer, x)
        frame.stream[id(given)], frame.given = given, given
        self.put(frame, "resid_pre", x)
        self.frames.append(frame)

    def as_rows(self, x):
        """A stream as `[batch, rows, width]` (or without the batch), where it is one: the cells of a grid row by row,
        and of several streams side by side (Gemma 3n) the one that goes on to the head."""
        if x is None or x.dim() in (2, 3):
            return x
        if x.dim() != 4:
            return None
        if self.ids is not None and tuple(x.shape[1:3]) == tuple(self.ids.shape):
            config = self.model.config
            own = getattr(config, "text_config", config)
            return x[getattr(own, "altup_active_idx", 0)]
        return x.flatten(1, 2)

    def leave(self, out):
        if not self.running or not self.frames:
            return
        frame = self.frames.pop()
        stack, left = frame.stack, first_of(out)
        y = self.as_rows(left)
        if y is None or tuple(y.shape) != frame.shape:
            stack.lose("what leaves it", frame.layer)
            self.attend(frame)
            return
        self.put(frame, "resid_post", y)
        stack.last, stack.norm_seen = left, False
        self.parts(frame, left)
        self.experts(frame)
        self.attend(frame)

    def child(self, name, kind, out):
        """A part of a layer is through: attention or MLP, for layers that have both side by side."""
        t, plain = first_of(out), re.search("norm|dropout", kind, re.I) is None
        if self.frames and plain and t is not None and tuple(t.shape) == self.frames[-1].shape:
            mlp = MLP.search(name) or MLP.search(kind)
            what = "attention" if ATTENTION.search(name + kind) else "mlp" if mlp else None
            if what:
                self.frames[-1].children.append((what, on_host(t)))

    def norm(self, args, out):
        x = args[0] if args else None
        if not self.running or not isinstance(out, torch.Tensor) or x is None:
            return
        if self.frames:
            frame = self.frames[-1]
            if id(x) in frame.stream:
                frame.normed[id(out)] = out
            return
        for stack in self.stacks:
            if stack.last is not None and x is stack.last and tuple(out.shape) == stack.shape:
                stack.norm_seen = True
                for tile, values in self.items(stack, out):
                    stack.final[tile] = values

    def joint(self, out):
        """What joins a picture to the text."""
        t = first_of(out)
        if self.running and not self.frames and t is not None:
            self.features = t

    # What torch is asked for.

    def before(self, name, args, kwargs):
        """Operands that are about to be overwritten."""
        if name not in ADD or len(args) < 2:
            return None
        frame = self.frames[-1]
        for stream, added in ((args[0], args[1]), (args[1], args[0])):
            known = id(stream) in frame.stream or id(stream) in frame.normed
            if known and isinstance(added, torch.Tensor) and frame.fits(added) and added.shape == stream.shape:
                factor = kwargs.get("alpha", 1) if added is args[1] else 1
                return (on_host(stream).reshape(frame.shape), on_host(added).reshape(frame.shape) * factor)
        return None

    def after(self, name, args, kwargs, out, seen):
        frame = self.frames[-1]
        if seen is not None and isinstance(out, torch.Tensor) and frame.fits(out):
            frame.adds.append(seen)
            frame.stream[id(out)] = out
            return
        if name == "scaled_dot_product_attention":
            return self.of_fused(frame, args, kwargs, out)
        if name == "topk":
            return self.choice(frame, args, kwargs, out)
        if not isinstance(out, torch.Tensor):
            return
        if name in MATMUL:
            return self.product(frame, name, args, kwargs, out)
        if name == "linear" and 1 < out.shape[-1] <= MAX_EXPERTS and frame.counts(out):
            frame.maps[out.shape[-1]] = out.detach()
        given = [a for a in list(args) + list(kwargs.values()) if isinstance(a, torch.Tensor)]
        if name in ("cat", "concat") and args and isinstance(args[0], (tuple, list)):
            given = [a for a in args[0] if isinstance(a, torch.Tensor)]
        if name in KEEPS and frame.fits(out):
            for known in (frame.stream, frame.normed):
                if any(id(g) in known for g in given):
                    known[id(out)] = out
        share = next((frame.shares[id(g)] for g in given if id(g) in frame.shares), None)
        if share is not None:
            frame.shares[id(out)] = share
            frame.alive.append(out)
        known = next((g for g in given if id(g) in frame.scores), None)
        if known is None:
            return
        scores = frame.scores[id(known)]
        if "softmax" in name:
            found = dict(scores=scores, values=known.detach(), shares=out.detach(), sinks=None)
            frame.shares[id(out)] = found
            frame.found.append((found, self.names[-1] if self.names else ""))
        elif name in ("cat", "concat"):
            scores.odd, scores.sink = True, True
        else:
            self.follow(frame, scores, name, args, known)
        frame.scores[id(out)] = scores
        frame.alive.append(out)

    def choice(self, frame, args, kwargs, out):
        """The largest of some values of each row: a router chooses experts."""
        t = args[0] if args else kwargs.get("input")
        best = out[1] if isinstance(out, tuple) else None
        if isinstance(t, torch.Tensor) and best is not None and frame.counts(t) and t.shape[-1] in frame.maps:
            # The best first, in whichever order they were given.
            order = t.gather(-1, best).argsort(dim=-1, descending=True, stable=True)
            frame.chosen = (frame.maps[t.shape[-1]], best.gather(-1, order).detach())

    def follow(self, frame, scores, name, args, known):
        """One step from the product of queries and keys to what the softmax reads."""
        other = args[1] if len(args) > 1 and args[0] is known else args[0] if args else None
        if name in TIMES or name in OVER:
            by = number(other)
            if by is None or (name in OVER and (args[0] is not known or by == 0.0)):
                scores.odd = True
            else:
                scores.times(by if name in TIMES else 1.0 / by)
        elif name in ADD:
            if isinstance(other, torch.Tensor):
                scores.added.append((other.detach(), 1.0))
            scores.odd |= scores.inner is not None and number(other) is None and self.adds_numbers(other)
        elif name in ("tanh", "tanh_"):
            scores.tanh()
        elif name not in KEEPS:
            scores.odd = True

    def adds_numbers(self, t):
        return isinstance(t, torch.Tensor) and bool(((t > HIDDEN) & (t != 0)).any())

    def product(self, frame, name, args, kwargs, out):
        """A matrix product: scores of queries and keys, or shares times values."""
        both, alpha, added = list(args), 1.0, []
        if name == "baddbmm":
            start = args[0] if args else kwargs["input"]
            both = [kwargs.get("batch1", args[1] if len(args) > 1 else None),
                    kwargs.get("batch2", args[2] if len(args) > 2 else None)]
            alpha, beta = kwargs.get("alpha", 1.0), kwargs.get("beta", 1.0)
            added = [(start.detach(), float(beta))] if beta else []
        elif name == "einsum":
            return self.summed(frame, args, out)
        elif len(both) < 2:
            both += [kwargs[k] for k in ("other", "mat2") if k in kwargs]
        a, b = both[:2]
        if id(a) in frame.shares:
            frame.shares[id(a)].setdefault("v", b.detach())
        elif out.dim() >= 3 and a.dim() >= 3 and b.dim() >= 3:
            frame.scores[id(out)] = Scores(a.detach(), b.detach().transpose(-1, -2), float(alpha), added)
            frame.alive.append(out)

    def summed(self, frame, args, out):
        """The same by letters: `bhid,bhjd->bhij` and its likes."""
        two = args[1] if isinstance(args[1], (tuple, list)) else args[1:]
        m = re.fullmatch(r"(\w+),(\w+)->(\w+)", str(args[0]).replace(" ", ""))
        if m is None or len(two) != 2:
            return
        (a, b, to), (x, y) = m.groups(), two
        for s, t, (sx, ty) in ((a, b, (x, y)), (b, a, (y, x))):
            if id(sx) in frame.shares:
                j = [c for c in s if c in t and c not in to]
                lead = [c for c in t if c in s and c in to]
                wide = [c for c in t if c not in s]
                if len(j) == 1:
                    v = torch.einsum(f"{t}->{''.join(lead + j + wide)}", ty)
                    frame.shares[id(sx)].setdefault("v", v.detach())
                return
        i, j = to[-2:]
        summed = [c for c in a if c in b and c not in to]
        if i in b and i not in a:
            (a, x), (b, y) = (b, y), (a, x)
        if len(summed) != 1 or len(to) < 3 or i not in a or i in b or j not in b or j in a:
            return
        lead = to[:-2]
        if any(c not in a and c not in b for c in lead):
            return
        q = torch.einsum(f"{a}->{''.join(c for c in lead if c in a)}{i}{summed[0]}", x)
        k = torch.einsum(f"{b}->{''.join(c for c in lead if c in b)}{j}{summed[0]}", y)
        frame.scores[id(out)] = Scores(q.detach(), k.detach())
        frame.alive.append(out)

    def of_fused(self, frame, args, kwargs, out):
        """scaled_dot_product_attention: queries, keys and values as they are given."""
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given = {**dict(zip(names, args)), **kwargs}
        q, k, v, mask = (given.get(n) for n in names[:4])
        scale = given.get("scale")
        causal = (True if given.get("is_causal") else False)
        self.found(frame, q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else scale, None, out,
                   causal and "top")

    def of_function(self, module, qkv, mask, args, kwargs, out):
        """An attention function of transformers that torch was not asked for."""
        q, k, v = qkv
        causal = kwargs.get("is_causal")
        causal = getattr(module, "is_causal", False) if causal is None else causal
        scale, window = kwargs.get("scaling"), kwargs.get("sliding_window")
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        n, m, device = q.shape[-2], k.shape[-2], q.device
        if getattr(mask, "mask_mod", None) is not None:
            from torch.nn.attention.flex_attention import create_mask

            mask = create_mask(mask.mask_mod, q.shape[0], 1, n, m, device=device)
            causal = False
        elif isinstance(mask, torch.Tensor) and mask.dim() == 2:
            mask = mask[:, None, None, -m:].bool()
        if causal and window and window < m:
            i, j = torch.arange(n, device=device)[:, None] + m - n, torch.arange(m, device=device)[None]
            near = (i - j < window)[None, None]
            mask = near if mask is None else (mask if mask.dtype == torch.bool else mask > HIDDEN) & near
        z = first_of(out)
        z = z.transpose(1, 2) if z is not None and z.dim() == 4 else None
        self.found(self.frames[-1], q, k, v, mask, scale, kwargs.get("softcap"), z, causal and "bottom",
                   kwargs.get("s_aux"))

    def found(self, frame, q, k, v, mask, scale, cap, out, causal, sinks=None):
        """Attention of which the inputs are known and not the scores."""
        q, k, v = q.detach(), k.detach(), v.detach()
        seen = dict(q=q, k=k, v=v, mask=mask, scale=float(scale), cap=cap, z=out, causal=causal)
        seen["sinks"] = None if sinks is None else sinks.detach().float().flatten()
        frame.found.append((seen, self.names[-1] if self.names else ""))

    # What a layer left behind.

    def items(self, stack, t):
        """Tiles and their part of a tensor `[batch, ..]`, or `[rows, width]` of one."""
        if t.dim() == 2:
            return [(stack.tile, on_host(t))]
        if stack.turned:
            t = t.transpose(0, 1)
        if stack.is_text or t.shape[0] == 1:
            return [(stack.tile, on_host(t[min(self.item, t.shape[0] - 1)]))]
        return [(i, on_host(t[i])) for i in range(min(t.shape[0], MAX_TILES))]

    def put(self, frame, site, t):
        for tile, values in self.items(frame.stack, t):
            frame.stack.arrays[(tile, frame.layer, site)] = values

    def parts(self, frame, y):
        """What attention and MLP added to the stream, and the stream between them."""
        adds, stack = frame.adds, frame.stack
        ends = id(y) in frame.stream or id(y) in frame.normed
        if len(adds) >= 2 and ends:
            self.put(frame, "attn_out", adds[0][1])
            self.put(frame, "resid_mid", adds[-1][0])
            self.put(frame, "mlp_out", adds[-1][1])
            return
        sides = {what: t for what, t in frame.children}
        if len(adds) == 1 and ends and len(sides) == 2:
            stream, added = adds[0]
            both = sides["attention"] + sides["mlp"]
            if float((both - added).abs().max()) <= 2e-2 * float(added.abs().max()) + 1e-6:
                self.put(frame, "attn_out", sides["attention"])
                self.put(frame, "resid_mid", stream + sides["attention"])
                self.put(frame, "mlp_out", sides["mlp"])
                return
        stack.lose("what attention and MLP add to the stream", frame.layer)

    def experts(self, frame):
        """Logits of a router over the experts, and which of them read each row."""
        if frame.chosen is None or frame.stack.turned:
            return
        router, chosen = (t.reshape(frame.batch, frame.rows, -1) for t in frame.chosen)
        self.put(frame, "router", router)
        self.put(frame, "experts", chosen)

    def across(self, frame, seen):
        """Probabilities `[heads, rows, keys]` of an attention to another sequence."""
        stack, batch = frame.stack, frame.batch
        if stack.is_text and frame.layer not in stack.cross and frame.tile == 0:
            p = seen.get("shares")
            if p is None:
                q, k = seen["q"].float(), seen["k"].float()
                if q.dim() > 3 and k.shape[-3] < q.shape[-3]:
                    k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
                s = q @ k.transpose(-1, -2) * seen["scale"]
                if seen["cap"]:
                    s = seen["cap"] * torch.tanh(s / seen["cap"])
                mask = seen["mask"]
                if mask is not None:
                    s = s.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else s + mask.float()
                p = s.softmax(-1)
            p = p.reshape(batch, -1, *p.shape[-2:])[min(self.item, batch - 1)]
            if p.shape[-2] == frame.rows:
                stack.cross[frame.layer] = on_host(p)
                return
        stack.lose("its attention to another sequence", frame.layer)

    def attend(self, frame):
        """Queries, keys and values of the layer's own attention, and the rule that makes probabilities of them."""
        stack, own = frame.stack, []
        for seen, name in frame.found:
            if "scores" in seen:
                seen.update(q=seen["scores"].q, k=seen["scores"].k)
            n, m = seen["q"].shape[-2], seen["k"].shape[-2]
            if CROSS.search(name) or n != m:
                self.across(frame, seen)
            else:
                own.append(seen)
        whole = [s for s in own if s["q"].shape[-2] == frame.rows]
        if whole:
            if len(whole) > 1:
                stack.lose("its second attention", frame.layer)
            return self.one(frame, whole[0], None)
        if own and sum(s["q"].shape[-2] for s in own) == frame.rows:
            # Windows, one after another.
            edges, at = [], 0
            for s in own:
                at += s["q"].shape[-2]
                edges.append(at)
            return self.windows(frame, own, edges[:-1])
        stack.lose("queries and keys", frame.layer)

    def windows(self, frame, own, edges):
        """Windows of rows that see only each other: kept as one attention where nothing else is done to scores."""
        plain = all(s.get("mask") is None and not s.get("causal") for s in own)
        if not plain:
            return frame.stack.lose("queries and keys of windows with masks", frame.layer)
        if "scores" in own[0]:
            scale, cap = own[0]["scores"].final()
            joined = dict(scale=scale, cap=cap, v=torch.cat([s["v"] for s in own], -2))
        else:
            joined = dict(scale=own[0]["scale"], cap=own[0]["cap"], v=torch.cat([s["v"] for s in own], -2))
        joined.update(q=torch.cat([s["q"] for s in own], -2), k=torch.cat([s["k"] for s in own], -2))
        joined.update(mask=None, z=None, causal=None)
        self.one(frame, joined, {"windows": edges})

    def one(self, frame, seen, mask):
        if seen.get("v") is None:
            frame.stack.lose("values", frame.layer)
        batch = frame.batch
        text = frame.stack.is_text or batch == 1
        for i in [min(self.item, batch - 1)] if text else range(min(batch, MAX_TILES)):
            self.heads(frame, seen, mask, i, batch, frame.tile if text else i)

    def heads(self, frame, seen, mask, item, batch, tile):
        """One row of the batch."""
        def of(t):
            """`[heads, rows, width]` of this row; what is the same for all heads stands once."""
            if t is None:
                return None
            if t.dim() == 2:
                return t[None]
            if t.dim() == 3:
                per = t.shape[0] // batch
                return t[item * per:(item + 1) * per] if per else t
            return t[item if t.shape[0] > 1 else 0].flatten(0, -3)

        q, k, v = of(seen["q"]).float(), of(seen["k"]).float(), of(seen.get("v"))
        h, n, m, stack = q.shape[0], q.shape[1], k.shape[1], frame.stack
        if h % k.shape[0]:
            return stack.lose("queries and keys", frame.layer)
        scores = seen.get("scores")
        scale, cap = scores.final() if scores else (seen["scale"], seen["cap"])
        odd, sink = scores is not None and scores.odd, scores is not None and scores.sink
        S = of(seen["values"]) if scores else None
        P = of(seen["shares"]) if scores else None
        z = of(seen["z"]) if not scores and seen.get("z") is not None else None
        added = scores.added if scores else [(seen["mask"], 1.0)] if seen["mask"] is not None else []

        def of_added(t, head):
            """What is added to the scores of a head, `[rows, keys]`."""
            t = t.detach()
            if t.dim() == 2:
                return t.expand(n, m)
            if t.dim() == 3 and t.shape[0] == h * batch:
                return t[item * h + head].expand(n, m)
            while t.dim() < 4:
                t = t[None]
            t = t[item if t.shape[0] > 1 else 0].flatten(0, -3)
            return t[head if t.shape[0] > 1 else 0].expand(n, m)

        rules, biases, sinks, worst, plain = [], [], [], 0.0, True
        group = h // k.shape[0]
        for head in range(h):
            raw = q[head] @ k[head // group].T
            made = raw * scale if cap is None else cap * torch.tanh(raw * (scale / cap))
            bias, seen_by = torch.zeros_like(made), torch.ones_like(made, dtype=torch.bool)
            if S is not None:
                final = S[head][..., :m].float()
                seen_by = final > HIDDEN
            if odd:
                bias = torch.where(seen_by, final - made, 0.0)
            else:
                for t, factor in added:
                    t = of_added(t, head)
                    if t.dtype == torch.bool:
                        seen_by &= t
                        continue
                    t = t.float() * factor
                    seen_by &= t > HIDDEN
                    bias += torch.where(seen_by, t, 0.0)
            if seen.get("causal"):
                seen_by &= torch.ones_like(seen_by).tril(0 if seen["causal"] == "top" else m - n)
            bias = torch.where(seen_by, bias, 0.0)
            # What is the same for all keys of a query changes nothing.
            low = torch.where(seen_by, bias, float("inf")).amin(-1)
            high = torch.where(seen_by, bias, float("-inf")).amax(-1)
            size = float(made.abs().max()) + 1.0
            if float((high - low).clamp(min=0).max()) > (1e-5 if odd else 0.0) * size:
                plain = False
            all_of = torch.where(seen_by, made + bias, float("-inf"))
            # A score beside those of the keys: of a parameter, or of a column behind them, moved as its row was.
            own = seen["sinks"][head].expand(n) if seen.get("sinks") is not None else None
            if sink and S[head].shape[-1] == m + 1:
                own = S[head][..., m].float()
                own = own - torch.where(seen_by, bias, 0.0).sum(-1) / seen_by.sum(-1).clamp(min=1)
            if own is not None:
                sinks.append(float(own.mean()))
                even = float((own - own.mean()).abs().max()) <= 1e-4 * (float(own.abs().max()) + size)
                if not even or (odd and not plain):
                    sinks[-1] = None
                moved = own + (torch.where(seen_by, bias, 0.0).sum(-1) / seen_by.sum(-1).clamp(min=1) if odd else 0.0)
                share = torch.softmax(torch.cat([all_of, moved[:, None]], -1), -1)[..., :m]
            else:
                share = torch.softmax(all_of, -1)
            blind = ~seen_by.any(-1)
            if bool(blind.any()):
                self.note(f"rows {', '.join(map(str, blind.nonzero()[:, 0].tolist()))} see no key at all, so what the "
                          "model makes of them means nothing; their maps are empty")
            share = torch.nan_to_num(share)
            if P is not None:
                theirs = P[head][..., :m].float()
                if sink and own is None:
                    theirs = theirs / theirs.sum(-1, keepdim=True)
                off = (share - theirs)[~blind].abs()
                worst = max(worst, float(off.max()) if off.numel() else 0.0)
            elif z is not None and v is not None and z.shape[0] == h and z.shape[-2] == n:
                own = z[head].float()
                mine = share @ v[head // (h // v.shape[0])].float()
                off = (mine - own)[~blind].abs()
                worst = max(worst, float(off.max()) / (float(own.abs().max()) or 1.0) if off.numel() else 0.0)
            biases.append(bias)
            rules.append(seen_by.cpu())
        if len(sinks) != h or None in sinks:
            sinks = None
        if sink and sinks is None:
            self.note("heads of this model leave a part of their attention to a sink that is no token; maps are shown "
                      "without it, so their rows are larger than the model's own")
        if not worst <= (2e-4 if seen["q"].dtype == torch.float32 else 6e-2):
            stack.lose(f"queries and keys (probabilities made of them are off by {worst:.1e})", frame.layer)
            return
        else:
            self.worst = max(self.worst, worst)
        if mask is None:
            same = all(torch.equal(r, rules[0]) for r in rules)
            mask = self.rule(rules[0]) if same else {"per_head": [self.rule(r) for r in rules]}
        if self.listed > MAX_LISTED:
            return stack.lose("queries and keys, whose masks are too long to be listed", frame.layer)
        q, k = q.cpu(), k.cpu()
        kv = grouped(k, v)
        k = k[:: k.shape[0] // kv]
        if v is not None:
            v = v.float().cpu()[:: v.shape[0] // kv]
        if not plain:
            # A component for every key holds what is added to its score.
            q = torch.cat([q, torch.stack(biases).cpu() / scale], -1)
            k = torch.cat([k, torch.eye(m).expand(kv, m, m)], -1)
            if cap is not None:
                return stack.lose("queries and keys, whose scores are capped before something is added", frame.layer)
        stack.rules[frame.layer] = dict(n_heads=h, n_kv_heads=kv, scale=float(scale), mask=mask,
                                        soft_cap=None if cap is None else float(cap))
        if sinks is not None:
            stack.rules[frame.layer]["sinks"] = sinks
        for site, t in (("q", q), ("k", k), ("v", v)):
            if t is not None:
                stack.arrays[(tile, frame.layer, site)] = t.contiguous()

    def rule(self, seen):
        """A mask in words, or else listed."""
        n = seen.shape[0]
        i, j = torch.arange(n)[:, None], torch.arange(n)[None]
        if bool(seen.all()):
            return "bidirectional"
        causal = j <= i
        if torch.equal(seen, causal):
            return "causal"
        width = int(seen.sum(-1).max())
        if torch.equal(seen, causal & (i - j < width)):
            return {"sliding_window": width}
        near = int((i - j)[seen].abs().max()) if bool(seen.any()) else 0
        if torch.equal(seen, (i - j).abs() <= near):
            return {"near": near}
        # Runs of rows that see each other ahead, too: pictures, prefixes.
        ahead = (seen & (j > i)).any(-1)
        runs, at = [], 0
        while at < n:
            if bool(ahead[at]):
                end = int(seen[at].nonzero().max()) + 1
                runs.append([at, end])
                at = end
            else:
                at += 1
        blocks = torch.zeros_like(seen)
        for a, b in runs:
            blocks[a:b, a:b] = True
        for of, name in ((causal, "causal"), (causal & (i - j < width), {"sliding_window": width})):
            if runs and torch.equal(seen, of | blocks):
                return {"blocks": {"runs": runs, "of": name}}
        if torch.equal(seen, blocks) and runs and runs[0][0] == 0 and runs[-1][1] == n:
            return {"windows": [b for _, b in runs[:-1]]}
        keys = seen.any(0)
        if not bool(keys.all()) and bool(seen.any()):
            for of, name in ((torch.ones_like(seen), "bidirectional"), (causal, "causal")):
                if torch.equal(seen, of & keys[None]):
                    return {"only": {"keys": keys.nonzero()[:, 0].tolist(), "of": name}}
        self.listed += int(seen.sum())
        return {"table": [row.nonzero()[:, 0].tolist() for row in seen]}

    def keep_output(self):
        """Copies what the model returned, before anybody changes it."""
        out, kept = self.output, {}
        fields = dict(out.items()) if hasattr(out, "items") else {}
        if not fields:
            all_of = out if isinstance(out, (tuple, list)) else [out]
            fields = {"logits" if i == 0 else f"output_{i}": t for i, t in enumerate(all_of)}
        for name, t in fields.items():
            if isinstance(t, torch.Tensor) and t.is_floating_point() and name != "loss":
                kept[name] = t.detach()
        logits = kept.pop("logits", None)
        self.kept_logits, self.logit_rows, self.extras = None, [], {}
        text = self.text_stack()
        if logits is not None and logits.dim() == 3 and text is not None:
            t = logits[min(self.item, logits.shape[0] - 1)]
            size = 4 * t.numel()
            how = self.logits if self.logits != "auto" else "all" if size <= MAX_LOGITS else "last"
            if self.logits == "auto" and how == "last":
                self.note(f"logits of all rows would take {size >> 20} MB; those of the last are kept (logits='all')")
            if how != "none":
                first = text.n - t.shape[0] if how == "all" else text.n - 1
                self.logit_rows = list(range(max(first, 0), text.n))
                self.kept_logits = on_host(t[-len(self.logit_rows):])
        elif logits is not None and logits.dim() == 2 and text is None:
            self.kept_logits = on_host(logits[min(self.item, logits.shape[0] - 1)][None])
        elif logits is not None:
            self.extras["logits"] = on_host(logits[min(self.item, logits.shape[0] - 1)])
        for name in ("last_hidden_state", "pooler_output", "text_embeds", "image_embeds", "logits_per_image",
                     "logits_per_text", "start_logits", "end_logits", "prediction_logits", "seq_relationship_logits"):
            t = kept.get(name)
            if t is not None and 4 * t.numel() <= MAX_LOGITS and t.dim() >= 2:
                self.extras[name] = on_host(t[min(self.item, t.shape[0] - 1)])
        self.output = None

    # The file.

    def text_stack(self):
        """The layers that read the text; of an encoder and a decoder, what writes."""
        own = [s for s in self.stacks if s.is_text and s.arrays]
        if self.wanted is not None:
            own = [s for s in self.stacks if self.wanted in s.name and s.arrays] or own
        return own[-1] if own else None

    def vision_stack(self, text):
        """The layers that read the picture."""
        sees = any(isinstance(v, torch.Tensor) and VISION.search(k) for k, v in self.inputs.items())
        own = [s for s in self.stacks if s is not text and s.arrays and not s.is_text]
        named = [s for s in own if VISION.search(s.name)] or own
        return named[0] if sees and named else None

    def write(self):
        text = self.text_stack()
        vision = self.vision_stack(text)
        if text is None and vision is None:
            ran = [s for s in self.stacks if s.arrays]
            if not ran:
                lost = [f"of {s.name}: {what}" for s in self.stacks for what in s.lost]
                return self.nothing("no layer of a form that is known was seen running", lost)
            text = ran[-1]
            self.note(f"{text.name} reads neither token ids nor a picture; its rows have no text")
        config = self.model.config
        towers, arrays, rows, tensors = {}, [], [], {}

        def row_map(tokens, positions):
            one = {"tokens": tokens, "positions": positions}
            if one not in rows:
                rows.append(one)
            return rows.index(one)

        def put(tower, tile, layer, site, t, index):
            name = f"{tower}.{tile}.{layer}.{site}"
            tensors[name] = numpy.ascontiguousarray(t.numpy(), dtype=numpy.float32)
            arrays.append(dict(step=0, tower=tower, tile=tile, layer=layer, site=site, rows=index))

        for tower, stack in (("text", text), ("vision", vision)):
            if stack is None:
                continue
            n, layers = stack.n, stack.n_layers()
            missing = {}
            for what, of in stack.lost.items():
                missing.setdefault(tuple(sorted(set(of))), []).append(what)
            for of, whats in missing.items():
                which = "every layer" if len(of) >= layers else "layers " + ", ".join(map(str, of))
                self.note(f"not in the file, of {stack.name}, {which}: {', '.join(whats)}")
            if any("changes between" in what for what in stack.lost):
                self.note(f"{stack.name} is not kept: its rows change from layer to layer")
                continue
            tokens, grids, marked = self.tokens(tower, stack, n)
            none = dict(n_heads=0, n_kv_heads=0, scale=1.0, mask="bidirectional", soft_cap=None)
            tiles = 1 + max(k[0] for k in stack.arrays)
            towers[tower] = dict(tokens=tokens, n_layers=layers, width=stack.width,
                                 attention=[stack.rules.get(i, none) for i in range(layers)],
                                 grids=grids, n_tiles=tiles, class_token=marked)
            for layer, p in stack.cross.items():
                self.extras[f"cross_attentions_{layer}"] = p
            if stack.cross:
                self.note(f"attention of {stack.name} to another sequence is kept as cross_attentions_0 and so on; no "
                          "view shows it")
            whole = row_map([[i] for i in range(n)], list(range(n)))
            for (tile, layer, site), t in sorted(stack.arrays.items()):
                put(tower, tile, layer, site, t, whole)
            final = stack.final
            if not stack.norm_seen:
                final = {k[0]: t for k, t in stack.arrays.items() if k[1:] == (layers - 1, "resid_post")}
            for tile, t in final.items():
                put(tower, tile, layers, "final", t, whole)
            if self.kept_logits is not None and (tower == "text") == (text is not None):
                put(tower, 0, layers, "logits", self.kept_logits, whole)
            if tower == "text" and self.features is not None and vision is not None:
                images = [i for i, t in enumerate(tokens) if t["kind"] == "image"]
                t = on_host(self.features)
                t = t.reshape(-1, t.shape[-1])
                if t.shape == (len(images), stack.width):
                    # Some models sort them behind the module that makes them; the text has them in their places.
                    own = stack.arrays[(0, 0, "resid_pre")][images]
                    size = lambda rows: rows.norm(dim=-1).sort().values
                    t = own if torch.allclose(size(own), size(t), rtol=1e-4, atol=1e-5) else t
                    put(tower, 0, 0, "features", t, row_map([[i] for i in images], images))
        if not towers:
            return self.nothing("nothing of this run has a form that can be kept", [])
        for stack in self.stacks:
            if stack.arrays and stack not in (text, vision):
                self.note(f"not kept: {stack.name}, a stack of {stack.n_layers()} layers beside those that are shown")
        none = not any(a["site"] == "logits" for a in arrays) and "logits" not in self.extras
        if none and self.logits != "none" and re.search("For[A-Z]|LMHead", type(self.model).__name__):
            self.note("not found: logits")
        if any(a["site"] == "q" for a in arrays):
            self.note(f"probabilities made of the recorded queries and keys differ by at most {self.worst:.1e} from "
                      "what the model computed")
        for name, t in self.extras.items():
            tensors[f"extra.{name}"] = numpy.ascontiguousarray(t.numpy())
        self.put_inputs(tensors)
        own = type(self.model).__name__
        name = getattr(config, "_name_or_path", "") or own
        types = self.inputs.get("token_type_ids")
        header = dict(
            version=VERSION, model=os.path.basename(name.rstrip("/")) or own, fingerprint="", text=self.read or "",
            architecture=own, towers=towers, rows=rows, arrays=arrays,
            image_size=list(self.image.size) if self.image is not None else None, extras=sorted(self.extras),
            token_types=types[min(self.item, types.shape[0] - 1)].tolist() if types is not None else None,
            logit_rows=self.logit_rows, continuation=[], continuation_text="", notes=list(self.notes),
            dtype=str(next(self.model.parameters()).dtype).replace("torch.", ""), recorder="transformers")
        part = self.path + ".part"
        save_file(tensors, part, metadata={KEY: json.dumps(header)})
        os.replace(part, self.path)
        self.written = True
        print(f"tokenscope: {len(arrays)} arrays in {self.path}", file=sys.stderr)
        for note in self.notes:
            print(f"tokenscope: {note}", file=sys.stderr)

    def nothing(self, why, lost):
        """Says that there is no file. What the model gave is good all the same, and the program goes on."""
        for line in [f"no file is written: {why}"] + lost + self.notes:
            print(f"tokenscope: {line}", file=sys.stderr)

    def put_inputs(self, tensors):
        """The picture, and what the model read of it, so that the run can be repeated elsewhere."""
        if self.image is not None:
            tensors["picture"] = numpy.ascontiguousarray(numpy.asarray(self.image, dtype=numpy.uint8))
        pixels = self.inputs.get("pixel_values")
        texts = self.ids.shape[0] if self.ids is not None else 1
        grid, own = self.inputs.get("image_grid_thw"), None
        if isinstance(pixels, torch.Tensor) and pixels.dim() <= 5:
            if pixels.dim() == 2 and isinstance(grid, torch.Tensor) and texts > 1:
                # One list of patches for the whole batch: those of the item's own picture.
                counts = grid.reshape(-1, 3).prod(-1).tolist()
                if len(counts) == texts and sum(counts) == pixels.shape[0]:
                    own = min(self.item, texts - 1)
                    pixels = pixels.split(counts)[own]
                else:
                    pixels = None
            elif pixels.dim() >= 4 and pixels.shape[0] == texts > 1:
                own = min(self.item, texts - 1)
                pixels = pixels[own]
            elif texts > 1:
                pixels = None
        if not isinstance(pixels, torch.Tensor) or pixels.dim() > 5:
            if self.inputs.get("pixel_values") is not None:
                self.note("the pixel values of this text are not told apart from those of the batch, so the run cannot "
                          "be repeated from the file")
            return
        while pixels.dim() > 4 or (pixels.dim() == 4 and pixels.shape[0] == 1):
            pixels = pixels[0]
        tensors["pixel_values"] = on_host(pixels).numpy()
        for name, size in (("image_grid_thw", 3), ("image_sizes", 2)):
            t = self.inputs.get(name)
            if isinstance(t, torch.Tensor) and own is not None and t.numel() == size * texts:
                t = t.reshape(-1, size)[own]
            if isinstance(t, torch.Tensor) and t.numel() == size:
                tensors[name] = t.detach().cpu().to(torch.int64).reshape(-1).numpy()

    # Tokens and where they come from.

    read = None

    def tokens(self, tower, stack, n):
        if tower == "vision":
            return self.patches(stack, n)
        ids = None
        if self.ids is not None and self.ids.shape[1] == n:
            ids = self.ids[min(self.item, self.ids.shape[0] - 1)].tolist()
        if ids is None:
            if self.ids is not None:
                self.note(f"the layers work on {n} rows and there are {self.ids.shape[1]} ids, so rows have no text")
            return [token(None, f"row {i}", "text") for i in range(n)], [], None
        given = self.inputs.get("attention_mask")
        pads = [False] * n
        if isinstance(given, torch.Tensor) and tuple(given.shape) == tuple(self.ids.shape):
            pads = [x == 0 for x in given[min(self.item, given.shape[0] - 1)].tolist()]
        out = self.of_text(ids, pads)
        grids = self.of_picture(ids, out)
        return out, grids, None

    def of_text(self, ids, pads):
        t, n = self.tokenizer, len(ids)
        if t is None:
            return [token(i, f"<{i}>", "padding" if p else "text") for i, p in zip(ids, pads)]
        special = set(getattr(t, "all_special_ids", []))
        words = [word(t, i) for i in ids]
        kinds = ["padding" if p else "special" if i in special else "text" for i, p in zip(ids, pads)]
        spans = self.spans(ids, kinds)
        return [token(i, w, k, s) for i, w, k, s in zip(ids, words, kinds, spans)]

    def spans(self, ids, kinds):
        """Bytes of the text that each token stands for: of the text that was read, else of the decoded one."""
        t, own = self.tokenizer, [i for i, k in enumerate(kinds) if k != "padding"]
        if self.text is not None:
            self.read = self.text
            try:
                e = t(self.text, return_offsets_mapping=True)
                if list(e["input_ids"]) == [ids[i] for i in own]:
                    at = [len(self.text[:c].encode()) for c in range(len(self.text) + 1)]
                    out = [None] * len(ids)
                    for i, (a, b) in zip(own, e["offset_mapping"]):
                        if b > a and kinds[i] == "text":
                            out[i] = (at[a], at[b])
                    return out
            except (NotImplementedError, ValueError, TypeError):
                pass
            self.note("the text that was given is not cut into these ids, so the text is what they decode to")
        texts = [i for i, k in enumerate(kinds) if k == "text"]
        decode = lambda a, b: t.decode([ids[i] for i in texts[a:b]], clean_up_tokenization_spaces=False)
        out, whole, start, begin = [None] * len(ids), "", 0, 0
        for end in range(1, len(texts) + 1):
            before, now = decode(begin, start), decode(begin, end)
            if now.endswith("\ufffd") and end < len(texts):
                continue
            a = len(whole.encode())
            whole += now[len(before):]
            b = len(whole.encode())
            for i in texts[start:end]:
                out[i] = (a, b) if b > a else None
            begin, start = start, end
        self.read = whole
        return out

    def of_picture(self, ids, tokens):
        """Marks image tokens, and gives their grids where their number says what they are."""
        config, found = self.model.config, None
        for name in ("image_token_id", "image_token_index", "im_token_id", "img_token_id", "image_token"):
            for of in (config, self.processor, self.tokenizer):
                own = getattr(of, name, None)
                if isinstance(own, int) and own in ids and found is None:
                    found = own
        if found is None:
            if self.inputs.get("pixel_values") is not None and "text_embeds" not in self.extras:
                self.note("not found: which tokens stand for the picture")
            return []
        runs, at = [], 0
        while at < len(ids):
            end = at
            while end < len(ids) and ids[end] == found:
                tokens[end].update(kind="image", source="none")
                end += 1
            if end > at:
                runs.append((at, end - at))
            at = max(end, at + 1)
        thw, merge = self.inputs.get("image_grid_thw"), 1
        vision = getattr(config, "vision_config", config)
        if isinstance(thw, torch.Tensor):
            merge = getattr(vision, "spatial_merge_size", None) or getattr(self.processor, "merge_size", None) or 2
        pixels = self.inputs.get("pixel_values")
        tiles = pixels.flatten(0, -4).shape[0] if isinstance(pixels, torch.Tensor) and pixels.dim() >= 4 else 0
        one = tiles <= len(runs)
        grids = []
        for i, (first, count) in enumerate(runs):
            side = int(count ** 0.5 + 0.5)
            shape = self.grid
            if shape is None and isinstance(thw, torch.Tensor) and i < len(thw):
                t, h, w = thw[i].tolist()
                shape = (h // merge, w // merge) if t == 1 else None
            elif shape is None and one and side * side == count:
                shape = (side, side)
            if shape is None or shape[0] * shape[1] != count:
                self.note(f"not found: rows and columns of the {count} image tokens from token {first} on (say grid=)")
                continue
            grids.append(dict(rows=shape[0], cols=shape[1], first=first, tile=0, gap=0))
            place(tokens, first, shape, self.box_of(isinstance(thw, torch.Tensor)))
        return grids

    def box_of(self, whole=False):
        """The part of the picture that the model saw, in its pixels."""
        if self.box is not None:
            return self.box
        if self.image is None:
            return None
        (w, h), p = self.image.size, getattr(self.processor, "image_processor", self.processor)
        size = lambda name: getattr(p, name, None) or {}
        crop, resize = size("crop_size"), size("size")
        if whole or p is None or not getattr(p, "do_center_crop", False):
            if p is None and not whole:
                self.note("there is no processor to say what the model saw of the picture; taken for the whole")
            elif not whole and getattr(p, "do_pad", False):
                self.note("the processor pads the picture; its tokens are drawn as if it did not (say box=)")
            return (0.0, 0.0, float(w), float(h))
        get = lambda d, k: d.get(k) if hasattr(d, "get") else getattr(d, k, None)
        edge = get(resize, "shortest_edge")
        sx = sy = edge / min(w, h) if edge else 1.0
        if not edge and get(resize, "height"):
            sx, sy = get(resize, "width") / w, get(resize, "height") / h
        cw, ch = (get(crop, "width") or edge) / sx, (get(crop, "height") or edge) / sy
        return ((w - cw) / 2, (h - ch) / 2, cw, ch)

    def patches(self, stack, n):
        """Rows of an image encoder: patches in their grid, after a class token and registers where there are any."""
        config, pixels, thw = self.model.config, self.inputs.get("pixel_values"), self.inputs.get("image_grid_thw")
        vision = getattr(config, "vision_config", config)
        size = getattr(vision, "patch_size", None)
        pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
        if isinstance(thw, torch.Tensor):
            out = [token(None, f"patch {i}", "image") for i in range(n)]
            t, h, w = thw[0].tolist()
            merge = getattr(vision, "spatial_merge_size", None) or 1
            if len(thw) == 1 and t == 1 and h * w == n and not getattr(vision, "window_size", None):
                # Patches that become one token stand together.
                order = [(a + c, b + d) for a in range(0, h, merge) for b in range(0, w, merge)
                         for c in range(merge) for d in range(merge)]
                box = self.box_of(True)
                for i, (r, c) in enumerate(order):
                    out[i] = token(None, f"patch {r},{c}", "image")
                    if box is not None:
                        out[i]["source"] = {"rect": cell(box, (h, w), r, c)}
            else:
                self.note(f"not found: where the {n} rows of {stack.name} lie on the picture")
            return out, [], None
        if not isinstance(pixels, torch.Tensor) or not all(isinstance(s, int) for s in pair):
            self.note(f"not found: what the {n} rows of {stack.name} stand for")
            return [token(None, f"row {i}", "image") for i in range(n)], [], None
        shape = (pixels.shape[-2] // pair[0], pixels.shape[-1] // pair[1])
        before = n - shape[0] * shape[1]
        if not 0 <= before <= 32:
            self.note(f"not found: the grid of the {n} rows of {stack.name}")
            return [token(None, f"row {i}", "image") for i in range(n)], [], None
        names = ["[CLS]"] + [f"register {i}" for i in range(1, before)]
        out = [token(None, names[i], "special") for i in range(before)]
        out += [token(None, f"patch {r},{c}", "image") for r in range(shape[0]) for c in range(shape[1])]
        if 1 + max(k[0] for k in stack.arrays) == 1:
            place(out, before, shape, self.box_of())
        else:
            self.note("the picture was cut into tiles; where they lie is not found")
        return out, [dict(rows=shape[0], cols=shape[1], first=before, tile=0, gap=0)], 0 if before else None


def token(i, text, kind, span=None):
    source = "none" if span is None else {"bytes": {"start": span[0], "end": span[1]}}
    return dict(id=i, text=text, kind=kind, source=source)


def word(tokenizer, i):
    """The text of one id, with its space in front."""
    raw, text = tokenizer.convert_ids_to_tokens(i), tokenizer.decode([i], clean_up_tokenization_spaces=False)
    if raw is None or not isinstance(raw, str):
        return text or f"<{i}>"
    if "\ufffd" in text or not text:
        return raw
    return " " + text if raw.startswith("\u2581") and not text.startswith(" ") else text


def cell(box, shape, r, c):
    x, y, w, h = box
    return dict(x=x + w * c / shape[1], y=y + h * r / shape[0], w=w / shape[1], h=h / shape[0])


def place(tokens, first, shape, box):
    """Names the tokens of a grid and gives them their rectangles."""
    for r in range(shape[0]):
        for c in range(shape[1]):
            t = tokens[first + r * shape[1] + c]
            t["text"] = f"patch {r},{c}"
            if box is not None:
                t["source"] = {"rect": cell(box, shape, r, c)}


def grouped(k, v):
    """How many key-value heads there are, where they were repeated for their query heads."""
    h = k.shape[0]
    for heads in range(1, h):
        if h % heads or (v is not None and v.shape[0] not in (heads, h)):
            continue
        same = lambda t: torch.equal(t, t[:: t.shape[0] // heads].repeat_interleave(t.shape[0] // heads, 0))
        if same(k) and (v is None or same(v)):
            return heads
    return h


def find_stacks(model):
    """Lists of layers: modules in a row that hold attention, outermost first, stages of several layers apart; else the
    first list of any layers."""
    out, inside = [], []
    for name, module in model.named_modules():
        if not isinstance(module, (nn.ModuleList, nn.Sequential)) or any(name.startswith(i + ".") for i in inside):
            continue
        layers = list(module)
        holds = lambda m: any(ATTENTION.search(n.rsplit(".", 1)[-1] + " " + type(c).__name__)
                              for n, c in m.named_modules() if n)
        alike = isinstance(module, nn.ModuleList) or len({type(m) for m in layers}) == 1
        # Lists of lists are never called, and between stages rows merge.
        staged = all(isinstance(m, (nn.ModuleList, nn.Sequential)) or "Stage" in type(m).__name__ for m in layers)
        if layers and alike and any(holds(m) for m in layers) and not staged:
            out.append(Stack(name or "layers", layers))
            inside.append(name)
    if out:
        return out
    # Models without attention have a stream all the same.
    for name, module in model.named_modules():
        kinds = {type(m).__name__ for m in module} if isinstance(module, nn.ModuleList) else set()
        layer = len(kinds) == 1 and re.search("layer|block|mixer", min(kinds), re.I)
        if layer and not re.search("norm|attn|attention|ffn|mlp", min(kinds), re.I):
            out.append(Stack(name, list(module)))
    return out[:1]


def main():
    p = argparse.ArgumentParser(description="Records a run of a transformers model as a trace for Tokenscope.")
    p.add_argument("--model", required=True, help="model folder or name")
    p.add_argument("--prompt", help="text for the model")
    p.add_argument("--ids", help="token ids instead of a text, as 3,1,4")
    p.add_argument("--image", help="picture for models that read one")
    p.add_argument("--out", required=True, help="file to write")
    p.add_argument("--dtype", default="float32", help="type to compute in (float32)")
    p.add_argument("--device", default="cpu", help="device to compute on (cpu)")
    p.add_argument("--attention", help="attention implementation, as eager or sdpa")
    p.add_argument("--logits", default="auto", choices=["auto", "all", "last", "none"], help="rows to keep (auto)")
    p.add_argument("--stack", help="part of the name of the layers to keep as the text's")
    p.add_argument("--trust-remote-code", action="store_true", help="run code that the folder brings")
    a = p.parse_args()
    import transformers

    rest = dict(trust_remote_code=a.trust_remote_code)
    config = transformers.AutoConfig.from_pretrained(a.model, **rest)
    name = (config.architectures or [""])[0]
    cls = getattr(transformers, name, None) or transformers.AutoModel
    given = dict(rest, torch_dtype=getattr(torch, a.dtype))
    if a.attention:
        given["attn_implementation"] = a.attention
    model = cls.from_pretrained(a.model, **given).eval().to(a.device)

    def optional(kind):
        try:
            return kind.from_pretrained(a.model, **rest)
        except Exception as e:  # noqa: BLE001
            print(f"tokenscope: no {kind.__name__}: {str(e).splitlines()[0]}", file=sys.stderr)
            return None

    image, processor, text = None, None, a.prompt
    if a.image:
        from PIL import Image

        image = Image.open(a.image).convert("RGB")
        processor = optional(transformers.AutoProcessor) or optional(transformers.AutoImageProcessor)
        if processor is None:
            sys.exit("the folder has no processor, so the picture cannot be read")
        if text is not None and not hasattr(processor, "tokenizer"):
            sys.exit("the folder's AutoProcessor did not load, so text and picture cannot be read together (see above)")
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None and (a.prompt or a.ids):
        tokenizer = optional(transformers.AutoTokenizer)
    if a.ids:
        inputs = {"input_ids": torch.tensor([[int(i) for i in a.ids.split(",")]])}
        text = None
        if image is not None:
            inputs.update(getattr(processor, "image_processor", processor)(images=image, return_tensors="pt"))
    elif image is not None and text is not None:
        mark = getattr(processor, "image_token", None)
        if mark and mark not in text:
            text = mark + text
        inputs, text = processor(text=[text], images=[image], return_tensors="pt"), None
    elif image is not None:
        inputs = processor(images=image, return_tensors="pt")
    elif text is not None and tokenizer is not None:
        inputs = tokenizer(text, return_tensors="pt")
    else:
        sys.exit("give --prompt (and a tokenizer in the folder), --ids or --image")
    inputs = {k: v.to(a.device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    if a.dtype != "float32":
        inputs = {k: v.to(model.dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v
                  for k, v in inputs.items()}
    with torch.no_grad(), record(model, tokenizer, a.out, image=image, processor=processor, text=text, logits=a.logits,
                                 stack=a.stack) as kept:
        model(**inputs)
    if not kept.written:
        sys.exit(1)


if __name__ == "__main__":
    main()
