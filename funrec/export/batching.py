"""Concurrent requests scored together: whatever has arrived while one batch was scored is the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

Row = Mapping[str, Any]
Scores = dict[str, np.ndarray]


class Busy(Exception):
    """More rows wait than may."""


class _Waiting(NamedTuple):
    rows: Sequence[Row]
    answer: asyncio.Future[Scores]


class Batcher:
    """Scores the rows of concurrent requests, one batch at a time in a thread of its own, without waiting for more.

    Args:
        score: Scores rows; raises `InputError` if one cannot be read.
        most_rows: Rows of a batch, unless one request has more.
        most_waiting: Rows that may wait.
        on_batch: Is told the rows of every batch.
    """

    def __init__(
        self,
        score: Callable[[Sequence[Row]], Scores],
        most_rows: int,
        most_waiting: int,
        on_batch: Callable[[int], object],
    ) -> None:
        self._score, self._most_rows, self._most_waiting, self._on_batch = score, most_rows, most_waiting, on_batch
        self._waiting: list[_Waiting] = []
        self._num_waiting = 0
        self._arrived = asyncio.Event()

    async def score(self, rows: Sequence[Row]) -> Scores:
        """Return the scores of a request's rows.

        Raises:
            Busy: If too many rows wait already.
            InputError: If one of the rows cannot be read.
        """
        if self._num_waiting and self._num_waiting + len(rows) > self._most_waiting:
            raise Busy
        answer: asyncio.Future[Scores] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(rows, answer))
        self._num_waiting += len(rows)
        self._arrived.set()
        return await answer

    async def run(self) -> None:
        """Score what arrives, until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="funrec-score") as pool:
            while True:
                await self._arrived.wait()
                batch = self._take()
                for waiting, found in zip(batch, await loop.run_in_executor(pool, self._answers, batch), strict=True):
                    if waiting.answer.done():  # its client has gone
                        continue
                    if isinstance(found, Exception):
                        waiting.answer.set_exception(found)
                    else:
                        waiting.answer.set_result(found)

    def _take(self) -> list[_Waiting]:
        count, rows = 0, 0
        for waiting in self._waiting:
            if count and rows + len(waiting.rows) > self._most_rows:
                break
            count, rows = count + 1, rows + len(waiting.rows)
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._num_waiting -= rows
        if not self._waiting:
            self._arrived.clear()
        self._on_batch(rows)
        return batch

    def _answers(self, batch: Sequence[_Waiting]) -> list[Scores | Exception]:
        """Return each request's scores; a row that cannot be read fails its own request alone."""
        try:
            scores = self._score([row for waiting in batch for row in waiting.rows])
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [answer for waiting in batch for answer in self._answers([waiting])]
        ends = np.cumsum([len(waiting.rows) for waiting in batch])[:-1]
        parts = {name: np.split(values, ends) for name, values in scores.items()}
        return [{name: of_name[place] for name, of_name in parts.items()} for place in range(len(batch))]
