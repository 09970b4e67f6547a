"""What happened in a training, epoch by epoch."""

from dataclasses import dataclass, field

from course_utils.metrics import ConfusionMatrix


@dataclass
class History:
    """What happened in a training: one number an epoch in each list.

    Attributes
    ----------
    train_loss, valid_loss
        Mean cross-entropy in nats, weighted as in training.
    mean_iou, pixel_accuracy
        On the validation set.
    learning_rate
        At the end of the epoch.
    seconds
        Wall-clock time of the epoch, validation included.
    settings
        How ``fit`` was called, on which device, in which precision, and the name of the run.
    """

    train_loss: list[float] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)
    mean_iou: list[float] = field(default_factory=list)
    pixel_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    settings: dict = field(default_factory=dict)

    def add(
        self,
        train_loss: float,
        valid_loss: float,
        confusion: ConfusionMatrix,
        learning_rate: float,
        seconds: float,
    ) -> None:
        """Add one epoch, with its confusion matrix on the validation set."""
        self.train_loss.append(train_loss)
        self.valid_loss.append(valid_loss)
        self.mean_iou.append(confusion.mean_iou())
        self.pixel_accuracy.append(confusion.pixel_accuracy())
        self.learning_rate.append(learning_rate)
        self.seconds.append(seconds)

    def __len__(self) -> int:
        return len(self.train_loss)

    def __str__(self) -> str:
        if not len(self):
            return "no epoch trained"
        seconds = sum(self.seconds)
        return (
            f"{len(self)} epochs in {seconds:.0f} s: validation mean IoU {self.mean_iou[-1]:.3f}, "
            f"pixel accuracy {self.pixel_accuracy[-1]:.3f}, loss {self.valid_loss[-1]:.3f}"
        )
