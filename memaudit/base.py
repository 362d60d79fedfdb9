"""What all answers of the service have in common."""

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Something that the service answered: attributes by name, `model_dump()` for a dictionary.

    A field that a newer service adds is kept and can be read by its name; a value that it adds is one more
    string. So an older client goes on with a newer service.
    """

    # Built when first used, so that importing stays quick.
    model_config = ConfigDict(extra="allow", defer_build=True, protected_namespaces=())
