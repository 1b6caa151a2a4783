from .core.errors import InputError as InputError
from .core.errors import PellucidError as PellucidError
from .core.errors import UnsupportedError as UnsupportedError
from .data.dataset import Data as Data
from .data.reading import read as read
from .evaluation.classification import evaluate_classification as evaluate_classification
from .evaluation.regression import evaluate_regression as evaluate_regression
from .explanation.activation import grad_cam as grad_cam
from .explanation.calibration import calibrate as calibrate
from .explanation.edges import edge_detector as edge_detector
from .explanation.gradient import gradient as gradient
from .explanation.gradient import gradient_times_input as gradient_times_input
from .explanation.gradient import integrated_gradients as integrated_gradients
from .explanation.gradient import smoothgrad as smoothgrad
from .explanation.libra_cam import libra_cam as libra_cam
from .explanation.method import explain as explain
from .explanation.perturbation import occlusion as occlusion
from .explanation.reference_library import reference_library as reference_library
from .explanation.result import Explanation as Explanation
from .models.building import build as build
from .models.description import describe as describe
from .quality.faithfulness import faithfulness as faithfulness
from .quality.randomisation import cascading_randomisation as cascading_randomisation
from .training.batches import InMemory as InMemory
from .training.finder import find_lr as find_lr
from .training.loop import train as train

__version__: str
