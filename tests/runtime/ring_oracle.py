"""The oracle of the bounded cache: a plain list of unrotated keys and values, attention written out.

It shares no code with the cache: it keeps its own list of units, drops them by the documented rules, and rotates every
key at each pass by its distance from the oldest kept position, in float64, so that large positions never occur in it.
"""

from __future__ import annotations

import math

import torch


class Kept:
    """One unit: `kind`, its positions, and per layer raw keys and values [n, K, E]."""

    def __init__(self, kind, held=False):
        self.kind, self.held, self.positions, self.layers = kind, held, [], {}


class NaiveRing:
    def __init__(self, model, budget, start):
        self.model, self.budget, self.next, self.units = model, budget, start, []

    def rows(self, *kinds):
        return sum(len(unit.positions) for unit in self.units if unit.kind in kinds)

    def make_room(self, new):
        """`new` is (unit, count) pairs; drops whole units, oldest first."""
        busy = [unit for unit, _ in new]
        count = {kind: sum(n for unit, n in new if unit.kind == kind) for kind in ("window", "reply")}
        while self.rows("window", "question") + count["window"] > self.budget.window:
            self.drop(next(u for u in self.units if u.kind == "window" and u not in busy))
        while self.rows("reply") + count["reply"] > self.budget.replies:
            oldest = next(u for u in self.units if u.kind == "reply")
            if oldest in busy:
                oldest.positions.pop(0)
                oldest.layers = {i: (k[1:], v[1:]) for i, (k, v) in oldest.layers.items()}
            else:
                self.drop(oldest)
        pinned = self.rows("pinned", "question")
        first = self.next + sum(n for _, n in new) - self.budget.span + pinned
        for unit in list(self.units):
            if unit.kind in ("window", "reply") and unit not in busy and unit.positions[0] < first:
                self.drop(unit)

    def drop(self, unit):
        if unit.held and unit.kind == "window":
            unit.kind = "question"
        else:
            self.units.remove(unit)

    def forward(self, rows_TD, plan):
        """Hidden states [T, D] of new rows whose units are `plan`."""
        owners = [unit for unit, n in plan for _ in range(n)]
        for unit in dict.fromkeys(owners):
            if unit not in self.units:
                self.units.append(unit)
        new = list(range(self.next, self.next + len(owners)))
        self.next += len(owners)
        for position, unit in zip(new, owners, strict=True):
            unit.positions.append(position)
        hidden = rows_TD
        for index, layer in enumerate(self.model.model.layers):
            hidden = hidden + self.attend(layer.self_attn, layer.input_layernorm(hidden), index, owners, new)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.model.model.norm(hidden)

    def attend(self, attention, x_TD, index, owners, new):
        width, heads = attention.head_dim, attention.num_heads
        keys = attention.k_proj(x_TD).view(len(new), -1, width)
        values = attention.v_proj(x_TD).view(len(new), -1, width)
        for row, unit in enumerate(owners):
            old = unit.layers.get(index, (keys[:0], values[:0]))
            unit.layers[index] = torch.cat([old[0], keys[row : row + 1]]), torch.cat([old[1], values[row : row + 1]])
        pinned = [u for u in self.units if u.kind in ("pinned", "question")]
        others = [u for u in self.units if u.kind not in ("pinned", "question")]
        base = min((u.positions[0] for u in others), default=new[0])
        places = list(range(-sum(len(u.positions) for u in pinned), 0))  # just before the oldest
        if not others:
            places = [p - base for u in pinned for p in u.positions]
        places += [position - base for unit in others for position in unit.positions]
        all_keys = torch.cat([unit.layers[index][0] for unit in pinned + others])
        all_values = torch.cat([unit.layers[index][1] for unit in pinned + others])
        queries = attention.q_proj(x_TD).view(len(new), heads, width)
        out = torch.zeros(len(new), heads, width, dtype=torch.float64)
        turned = [self.turn(key, place) for key, place in zip(all_keys, places, strict=True)]
        for row, position in enumerate(new):
            sees = [i for i, place in enumerate(places) if place <= position - base]
            query = self.turn(queries[row], position - base)
            for head in range(heads):
                group = head // (heads // attention.num_kv_heads)
                scores = torch.stack([query[head] @ turned[i][group] for i in sees]) / math.sqrt(width)
                weights = scores.softmax(0)
                out[row, head] = sum(w * all_values[i, group].double() for w, i in zip(weights, sees, strict=True))
        return attention.o_proj(out.flatten(1).float())

    def turn(self, rows, position):
        """Rotary embedding of [heads, E] at one position, in float64."""
        half = rows.shape[-1] // 2
        theta = self.model.config.language.rope_theta
        angles = position * theta ** (-torch.arange(half, dtype=torch.float64) / half)
        left, right = rows.double().chunk(2, -1)
        return torch.cat(
            [left * angles.cos() - right * angles.sin(), right * angles.cos() + left * angles.sin()], dim=-1
        )
