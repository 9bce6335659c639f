"""The REST service that is replaced: FastAPI, SQLAlchemy's ORM and Pydantic, as their tutorials show."""

import csv
import io
import os
from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, UploadFile
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from scripts.benchmark.rivals import tables

FOLDER = Path(os.environ["FILES_FOLDER"])
PIECE = 1024 * 1024

app = FastAPI()
Session = Annotated[AsyncSession, Depends(tables.session)]


class OwnerOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    username: str
    full_name: str | None


class ItemOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    description: str | None
    price: str
    tags: list[str]
    inventory: int
    in_stock: bool
    created_at: datetime


class OwnedItemOut(ItemOut):
    owner: OwnerOut | None


@app.get("/items/{item_id}")
async def item(item_id: int, session: Session) -> ItemOut:
    found = await tables.by_id(session, item_id)
    if found is None:
        raise HTTPException(404)
    return ItemOut.model_validate(found)


@app.get("/items", response_model=list[ItemOut])
async def items(session: Session, after: int = 0, limit: int = 50) -> list[tables.Item]:
    return await tables.page(session, after=after, size=limit)


@app.get("/owned-items", response_model=list[OwnedItemOut])
async def owned_items(session: Session, after: int = 0, limit: int = 50) -> list[tables.Item]:
    return await tables.page(session, after=after, size=limit, owners=True)


@app.get("/items.csv")
async def export() -> StreamingResponse:
    return StreamingResponse(_rows(), media_type="text/csv")


async def _rows() -> AsyncGenerator[str]:
    async with tables.sessions() as session:
        found = await session.stream_scalars(select(tables.Item).order_by(tables.Item.id), execution_options={"yield_per": 1_000})
        async for part in found.partitions():
            text = io.StringIO()
            csv.writer(text).writerows(
                (row.name, row.description, row.price, ";".join(row.tags), row.inventory, row.id, row.created_at) for row in part
            )
            yield text.getvalue()


@app.post("/files")
async def upload(file: UploadFile) -> dict[str, int]:
    size = 0
    with (FOLDER / "rest.bin").open("wb") as stored:
        while piece := await file.read(PIECE):
            size += stored.write(piece)
    return {"size": size}


@app.get("/files/{name}")
async def download(name: str) -> FileResponse:
    return FileResponse(FOLDER / Path(name).name)
