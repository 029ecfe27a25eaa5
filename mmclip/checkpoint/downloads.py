"""What all downloads have in common."""


def use_only_cached_files_if_offline() -> None:
    """Spare the user huggingface_hub's retries, a minute of them."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # of whichever HTTP library it uses
        constants.HF_HUB_OFFLINE = True
