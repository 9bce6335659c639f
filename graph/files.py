"""GraphQL types and fields of stored files. Their contents travel by REST alone: GraphQL carries no bytes."""

from datetime import datetime
from typing import Annotated
from urllib.parse import quote

import strawberry
import structlog

from graph.kit.auth import Scope
from graph.kit.connections import Connection
from graph.kit.context import Context, Info
from graph.kit.entity.declaration import computed, entity, to_one
from graph.kit.entity.visibility import Visibility
from graph.kit.errors import IdempotencyKeyReused, InvalidInput, NotFound
from graph.kit.fields import mutation
from graph.kit.global_ids import Node
from graph.kit.idempotency import IdempotencyKey
from graph.kit.operations.commands import perform
from graph.kit.operations.lists import read_list
from graph.kit.scalars import ByteCount
from graph.users.types import User
from persistence import files, users
from persistence.kit.blobs.blobs import Blobs
from persistence.kit.database.database import UnitOfWork

log = structlog.get_logger(__name__)

DOWNLOAD = "/api/v2/files/download/"


def download_path(filename: str) -> str:
    return DOWNLOAD + quote(filename, safe="")


@entity(files.ENTITY, visible=Visibility(Scope.FILES_READ))
@strawberry.type(description="An uploaded file.")
class StoredFile(Node):
    filename: str = strawberry.field(description="Unique: 1 to 255 bytes, safe as a file's name on every system.")
    size_bytes: ByteCount = strawberry.field(description="How long it is.")
    content_type: str = strawberry.field(
        description="The media type that its name claims, if its first bytes bear that out; else `application/octet-stream`."
    )
    sha256: str = strawberry.field(description="The SHA-256 of its content, in 64 hexadecimal digits.")
    uploaded_at: datetime = strawberry.field(description="When it was complete.")
    url: str = computed(
        "filename",
        compute=download_path,
        description="The path to download it from, on this host, with a token that carries files:read.",
    )
    owner: User | None = to_one("owner_id", users.ENTITY, description="Who uploaded it; null if the account is gone.")


@strawberry.type(description="The file is gone.")
class DeletedFile:
    id: strawberry.ID = strawberry.field(description="The id that it had.")
    filename: str = strawberry.field(description="The name that it had, free to be used again.")


DeleteFileResult = Annotated[
    DeletedFile | NotFound | InvalidInput | IdempotencyKeyReused,
    strawberry.union("DeleteFileResult", description="The file that is gone, or why none is."),
]


@strawberry.type
class FileQuery:
    files: Connection[StoredFile] = read_list(files.ALL, scope=Scope.FILES_READ, description="The files, in the order they were uploaded.")


@strawberry.type
class FileMutation:
    @mutation(scope=Scope.FILES_WRITE, description="Delete a file for good.")
    async def delete_file(
        self,
        info: Info,
        filename: Annotated[str, strawberry.argument(description="Its whole name.")],
        idempotency_key: IdempotencyKey = None,
    ) -> DeleteFileResult:
        async def command(work: UnitOfWork) -> files.StoredFile:
            return await files.delete(work, filename)

        deleted: StoredFile = await perform(info, files.ENTITY, command, key=idempotency_key, arguments=filename)
        await _forget(info.context, deleted.row.blob_key)
        return DeletedFile(id=deleted.id, filename=deleted.filename)


async def _forget(context: Context, key: str) -> None:
    try:
        await context.port(Blobs).delete(key)
    except Exception:  # The file is gone for everybody; its bytes are swept later.
        log.exception("a deleted file's content could not be removed yet", key=key)
