"""The oracle: the published way, one forward per position with both heads at each, under the session's rules.

Slow and plain on purpose. Positions are visited one by one; a decision is taken where a segment's end marker is read.
"""

from __future__ import annotations

import torch

from vispeak_node.model.prompts import SYSTEM_PROMPTS


class NaiveCache:
    """Keys and values by concatenation."""

    def __init__(self):
        self.layers = {}

    def append(self, layer, keys, values):
        if layer in self.layers:
            keys = torch.cat([self.layers[layer][0], keys], 2)
            values = torch.cat([self.layers[layer][1], values], 2)
        self.layers[layer] = (keys, values)
        return keys, values


class Loop:
    """Feeds segments position by position; `segments` are (kind, stamp, rows) with rows [T, D] ending in the marker."""

    def __init__(self, model, vocabulary, config):
        self.model, self.vocabulary, self.config = model, vocabulary, config
        self.cache, self.position = NaiveCache(), 0
        self.next_agent = vocabulary.pad
        self.reply, self.replies, self.scores = None, [], []
        self.window, self.first, self.last_fire = [], True, None
        self.question = None
        for row in self.embed([*vocabulary.encode(SYSTEM_PROMPTS[config.system_prompt]), vocabulary.segment_end]):
            self.step(row)

    def embed(self, ids):
        return self.model.embed(torch.tensor(ids))

    def step(self, user_row):
        """One position; returns what the two heads say there."""
        agent = self.embed([self.next_agent])
        self.next_agent = self.vocabulary.pad
        hidden = self.model.forward_embeds(
            self.model.combine(agent, user_row[None])[None], start=self.position, cache=self.cache
        )[0, 0]
        self.position += 1
        return self.model.lm_head(hidden), float(self.model.informative(hidden).sigmoid())

    def speak(self, logits):
        token = int(logits.argmax())
        self.reply["tokens"].append(token)
        self.next_agent = token
        if token == self.vocabulary.reply_end:
            self.end(False)
        elif len(self.reply["tokens"]) >= self.config.max_reply_tokens:
            self.end(True)

    def end(self, interrupted):
        self.replies.append((self.reply["start"], self.reply["trigger"], tuple(self.reply["tokens"]), interrupted))
        self.reply = None

    def begin(self, stamp, trigger, token):
        if self.reply is not None:
            self.end(True)
        self.reply = {"start": stamp, "trigger": trigger, "tokens": [token]}
        self.next_agent = token
        self.window, self.first = [], True

    def push(self, kind, stamp, rows):
        if kind == "text":
            self.question = stamp
        before = 0.0
        for index, row in enumerate(rows):
            logits, informative = self.step(row)
            if index < len(rows) - 1:
                if self.reply is not None:
                    self.speak(logits)
                before = informative
        self.decide(kind, stamp, logits, before)
        self.ahead(self.config.speak_ahead)

    def decide(self, kind, stamp, logits, score):
        token, begun = int(logits.argmax()), False
        rests = self.last_fire is not None and stamp - self.last_fire < self.config.refractory * 1e9
        busy = self.question is not None or self.reply is not None
        # the model itself begins words about a picture
        called = kind == "image" and busy and token == self.vocabulary.answer_visual and not rests
        if self.question is not None:
            silent = (self.vocabulary.pad, self.vocabulary.reply_end)
            starts = (token in self.vocabulary.starts) if self.reply is not None else (token not in silent)
            if starts:
                self.question = None
            if starts and not called:
                self.begin(stamp, "text", token)
                begun = True
        if kind == "image":
            self.window = [*self.window, 0.0 if self.first else score][-self.config.window :]
            self.first = False
            self.scores.append((stamp, score, sum(self.window)))
            if called or (sum(self.window) > self.config.threshold and not rests and not begun):
                self.last_fire, begun = stamp, True
                self.begin(stamp, "visual", self.vocabulary.answer_visual)
        if self.reply is not None and not begun:
            self.speak(logits)

    def ahead(self, most):
        pad = self.embed([self.vocabulary.pad])[0]
        for _ in range(most):
            if self.reply is None:
                return
            logits, _ = self.step(pad)
            self.speak(logits)
            if self.reply is None:
                self.step(pad)  # the end marker has a position of its own

    def finish(self):
        self.ahead(self.config.finish_padding)
        if self.reply is not None:
            self.end(True)
