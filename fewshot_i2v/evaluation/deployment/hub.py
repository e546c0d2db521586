"""Upload of a fitted model and its card to the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_i2v.errors import ExportError, UsageError
from fewshot_i2v.evaluation.deployment.card import model_card

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_CARD = "README.md"


@dataclass(frozen=True)
class HubPlan:
    """What an upload would do.

    Attributes:
        repository: its name, USER/NAME.
        exists: whether it is there already.
        public: whether a new one can be read by everybody.
        files: names that are written, old ones of the same name replaced.
    """

    repository: str
    exists: bool
    public: bool
    files: tuple[str, ...]

    @property
    def text(self) -> str:
        """What would happen, in words."""
        kind = (
            "which is there already; files of the same name are replaced"
            if self.exists
            else f"a new repository, {'PUBLIC' if self.public else 'private'}"
        )
        return (
            f"{', '.join(self.files)} to {self.repository}, {kind}. The model holds names and "
            "features of the labelled clips, no pictures"
        )


def upload_model(
    model: str | Path,
    repository: str,
    *,
    confirm: Callable[[HubPlan], bool],
    more: Sequence[Path] = (),
    public: bool = False,
    endpoint: str | None = None,
) -> str | None:
    """Uploads a fitted model and its card to a repository of the Hugging Face Hub.

    Args:
        model: file of the model.
        repository: USER/NAME; made if it is not there.
        confirm: called with what would be done, before anything is made or sent; False stops.
        more: more files, such as one of ONNX.
        public: whether a new repository is public; one that is there stays as it is.
        endpoint: address of the Hub; None: the usual one, or that of HF_ENDPOINT.

    Returns:
        Address of the repository; None where `confirm` says no.

    Raises:
        CheckpointError: when the model is damaged.
        UsageError: without a token, or for a wrong name.
        ExportError: when the Hub cannot be reached, or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    text = model_card(model)
    files = [Path(model), *more]
    token = get_token()
    if token is None:
        raise UsageError(
            "--hub: there is no token of the Hugging Face Hub here: `hf auth login` stores one, or "
            "set HF_TOKEN. Make one that may write at https://huggingface.co/settings/tokens"
        )
    api = HfApi(endpoint=endpoint, token=token)
    with _plain_errors(api, repository):
        exists = api.repo_exists(repository)
        names = (*(file.name for file in files), _CARD)
        if not confirm(HubPlan(repository, exists, public, names)):
            return None
        address = str(api.create_repo(repository, private=not public, exist_ok=True))
        operations = [CommitOperationAdd(file.name, file) for file in files]
        operations.append(CommitOperationAdd(_CARD, text.encode()))
        api.create_commit(repository, operations, commit_message=f"Upload {Path(model).name}")
    return address


@contextmanager
def _plain_errors(api: HfApi, repository: str) -> Iterator[None]:
    """Says in a line what went wrong."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    # of the library that sends, which is another one in every version of huggingface_hub
    transport_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except HFValidationError as error:
        raise UsageError(f"--hub: got {repository}; expected USER/NAME: {error}") from error
    except OfflineModeIsEnabled as error:
        raise ExportError(
            "--hub: HF_HUB_OFFLINE is set, so nothing is sent; unset it to upload"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        advice = {
            401: "the token is not valid; `hf auth login` stores another one",
            403: "the token may not write there; make one that may",
        }.get(status, (error.server_message or str(error)).strip().partition("\n")[0])
        raise ExportError(
            f"--hub: {api.endpoint} refused {repository} ({status}): {advice}"
        ) from error
    except (transport_error, OSError) as error:
        raise ExportError(
            f"--hub: {api.endpoint} cannot be reached: {error}. Nothing may have been uploaded: "
            "the same command tries again"
        ) from error
