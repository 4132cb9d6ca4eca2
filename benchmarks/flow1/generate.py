"""The events of flow-1, always the same ones: generate.py OUT.jsonl [EVENTS] [SEED]; needs numpy.

Sixty days from 2025-01-01, in order of their time within 30 s. Of a hundred events 30 are steps of work items and 70
are activity of 200,000 customers, few of whom are seen often. Every fiftieth item is created twice, of which the first
counts, and is never done.
"""

from __future__ import annotations

import sys

DAY = 86_400_000
FIRST = 1_735_689_600_000
"""2025-01-01T00:00:00Z in milliseconds."""
SPAN = 60 * DAY
TYPES = ("feature", "defect", "risk", "debt")
STATES = ("created", "started", "done")
ACTIONS = ("page_view", "feature_use", "login", "purchase", "api_call")
CUSTOMERS, PRODUCTS = 200_000, 20


def generate(path: str, events: int = 1_000_000, seed: int = 42) -> None:
    """Write them, one a line."""
    import numpy as np  # only the environment of this program has it

    random = np.random.default_rng(seed)
    items = events // 10
    created = random.uniform(0, 52 * DAY, items)
    until_started = 600_000 + random.exponential(1 * DAY, items)
    kind = random.choice(4, items, p=[0.4, 0.35, 0.1, 0.15])
    scale = np.array([1.4, 0.6, 1.0, 1.8])[kind]
    until_done = 600_000 + random.lognormal(np.log(2 * DAY), 0.8, items) * scale
    fits = np.minimum(1.0, (SPAN - 3_600_000 - created) / (until_started + until_done))
    until_started, until_done = until_started * fits, until_done * fits
    again = np.arange(items) % 50 == 0
    item_product = random.integers(0, PRODUCTS, items)
    second = np.where(again, created + until_started / 2, created + until_started)
    third = np.where(again, created + until_started, created + until_started + until_done)
    step = (np.zeros(items, int), np.where(again, 0, 1), np.where(again, 1, 2))

    seen = events - 3 * items
    weight = 1.0 / (np.arange(CUSTOMERS) + 10.0) ** 1.05
    share = np.cumsum(weight) / weight.sum()
    share[-1] = 1.0
    who = random.permutation(CUSTOMERS)
    customer = who[np.searchsorted(share, random.random(seen))]
    home = random.integers(0, PRODUCTS, CUSTOMERS)
    at_home = random.random(seen) < 0.8
    product = np.where(at_home, home[customer], random.integers(0, PRODUCTS, seen))
    seen_at = random.uniform(0, SPAN, seen)

    at = np.concatenate([created, second, third, seen_at]).astype(np.int64) + FIRST
    order = np.argsort(at + random.integers(-30_000, 30_000, events), kind="stable")
    text = np.datetime_as_string(at.astype("datetime64[ms]"))
    drawn = random.integers(0, 1 << 32, events)
    with open(path, "w", buffering=1 << 20) as file:
        for number, index in enumerate(order.tolist()):
            x = int(drawn[index])
            if index < 3 * items:
                which, item = divmod(index, items)
                file.write(
                    f'{{"event_id":"e-{number:09d}","kind":"item","item_id":"WI-{item:06d}",'
                    f'"product":"product-{item_product[item]:02d}","type":"{TYPES[kind[item]]}",'
                    f'"state":"{STATES[step[which][item]]}","event_time":"{text[index]}Z",'
                    f'"actor":"dev-{x % 500:03d}","source":"tracker",'
                    f'"attrs":{{"team":"team-{x % 17:02d}","priority":{x % 5},"points":{x % 13}}}}}\n'
                )
            else:
                a = index - 3 * items
                file.write(
                    f'{{"event_id":"e-{number:09d}","kind":"activity","user_id":"U-{customer[a]:06d}",'
                    f'"product":"product-{product[a]:02d}","action":"{ACTIONS[x % 5]}",'
                    f'"event_time":"{text[index]}Z","session":"s-{x:08x}","source":"web",'
                    f'"attrs":{{"country":"c{x % 40:02d}","device":"mobile","ms":{x % 900}}}}}\n'
                )


if __name__ == "__main__":
    generate(sys.argv[1], *(int(word) for word in sys.argv[2:]))
