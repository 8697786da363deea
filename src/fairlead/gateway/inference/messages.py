"""The messages of the Open Inference Protocol over gRPC, of Triton's extensions, and of gRPC's health check.

They are declared here in a shorthand and built when this is imported, in a pool of their own: a process may
hold a client's generated messages of the same names beside them. Field names and numbers are the protocol's;
enumerations are declared as the integers that they are on the wire.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["HEALTH_SERVICE", "INFERENCE_SERVICE", "message"]

INFERENCE_SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"

_INFERENCE = """
ServerLiveRequest
ServerLiveResponse
  bool live 1
ServerReadyRequest
ServerReadyResponse
  bool ready 1
ModelReadyRequest
  string name 1
  string version 2
ModelReadyResponse
  bool ready 1
ServerMetadataRequest
ServerMetadataResponse
  string name 1
  string version 2
  repeated string extensions 3
ModelMetadataRequest
  string name 1
  string version 2
ModelMetadataResponse.TensorMetadata
  string name 1
  string datatype 2
  repeated int64 shape 3
ModelMetadataResponse
  string name 1
  repeated string versions 2
  string platform 3
  repeated ModelMetadataResponse.TensorMetadata inputs 4
  repeated ModelMetadataResponse.TensorMetadata outputs 5
InferParameter
  oneof bool bool_param 1
  oneof int64 int64_param 2
  oneof string string_param 3
  oneof double double_param 4
  oneof uint64 uint64_param 5
InferTensorContents
  repeated bool bool_contents 1
  repeated int32 int_contents 2
  repeated int64 int64_contents 3
  repeated uint32 uint_contents 4
  repeated uint64 uint64_contents 5
  repeated float fp32_contents 6
  repeated double fp64_contents 7
  repeated bytes bytes_contents 8
ModelInferRequest.InferInputTensor
  string name 1
  string datatype 2
  repeated int64 shape 3
  map InferParameter parameters 4
  InferTensorContents contents 5
ModelInferRequest.InferRequestedOutputTensor
  string name 1
  map InferParameter parameters 2
ModelInferRequest
  string model_name 1
  string model_version 2
  string id 3
  map InferParameter parameters 4
  repeated ModelInferRequest.InferInputTensor inputs 5
  repeated ModelInferRequest.InferRequestedOutputTensor outputs 6
  repeated bytes raw_input_contents 7
ModelInferResponse.InferOutputTensor
  string name 1
  string datatype 2
  repeated int64 shape 3
  map InferParameter parameters 4
  InferTensorContents contents 5
ModelInferResponse
  string model_name 1
  string model_version 2
  string id 3
  map InferParameter parameters 4
  repeated ModelInferResponse.InferOutputTensor outputs 5
  repeated bytes raw_output_contents 6
ModelStreamInferResponse
  string error_message 1
  ModelInferResponse infer_response 2
ModelTensorReshape
  repeated int64 shape 1
ModelInput
  string name 1
  int32 data_type 2
  repeated int64 dims 4
  ModelTensorReshape reshape 5
ModelOutput
  string name 1
  int32 data_type 2
  repeated int64 dims 3
  ModelTensorReshape reshape 5
ModelConfig
  string name 1
  string platform 2
  string backend 17
  int32 max_batch_size 4
  repeated ModelInput input 5
  repeated ModelOutput output 6
ModelConfigRequest
  string name 1
  string version 2
ModelConfigResponse
  ModelConfig config 1
StatisticDuration
  uint64 count 1
  uint64 ns 2
InferStatistics
  StatisticDuration success 1
  StatisticDuration fail 2
  StatisticDuration queue 3
  StatisticDuration compute_input 4
  StatisticDuration compute_infer 5
  StatisticDuration compute_output 6
  StatisticDuration cache_hit 7
  StatisticDuration cache_miss 8
ModelStatistics
  string name 1
  string version 2
  uint64 last_inference 3
  uint64 inference_count 4
  uint64 execution_count 5
  InferStatistics inference_stats 6
ModelStatisticsRequest
  string name 1
  string version 2
ModelStatisticsResponse
  repeated ModelStatistics model_stats 1
ModelRepositoryParameter
  oneof bool bool_param 1
  oneof int64 int64_param 2
  oneof string string_param 3
  oneof bytes bytes_param 4
RepositoryIndexRequest
  string repository_name 1
  bool ready 2
RepositoryIndexResponse.ModelIndex
  string name 1
  string version 2
  string state 3
  string reason 4
RepositoryIndexResponse
  repeated RepositoryIndexResponse.ModelIndex models 1
RepositoryModelLoadRequest
  string repository_name 1
  string model_name 2
  map ModelRepositoryParameter parameters 3
RepositoryModelLoadResponse
RepositoryModelUnloadRequest
  string repository_name 1
  string model_name 2
  map ModelRepositoryParameter parameters 3
RepositoryModelUnloadResponse
"""

_HEALTH = """
HealthCheckRequest
  string service 1
HealthCheckResponse
  int32 status 1
"""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_Field, f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}
_pool = descriptor_pool.DescriptorPool()


def _declare(package: str, text: str) -> None:
    """Adds the messages of a text to the pool: a name, and below it lines of `[how] TYPE NAME NUMBER`."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    made: dict[str, Any] = {}
    current: Any = None
    for line in text.strip().splitlines():
        if not line.startswith(" "):
            outer, _, inner = line.rpartition(".")
            if outer and outer not in made:
                made[outer] = file.message_type.add(name=outer)
            if line not in made:
                holder = made[outer].nested_type if outer else file.message_type
                made[line] = holder.add(name=inner)
            current = made[line]
        else:
            _add_field(package, current, line.split())
    _pool.Add(file)


def _add_field(package: str, holder: Any, words: list[str]) -> None:
    *how, kind, name, number = words
    field = holder.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if "repeated" in how:
        field.label = _Field.LABEL_REPEATED
    if "oneof" in how:
        if not holder.oneof_decl:
            holder.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if "map" in how:
        entry = holder.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(package, entry, ["string", "key", "1"])
        _add_field(package, entry, [kind, "value", "2"])
        field.label = _Field.LABEL_REPEATED
        field.type = _Field.TYPE_MESSAGE
        field.type_name = entry.name
    elif kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{package}.{kind}"


def message(name: str, package: str = "inference") -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{package}.{name}"))


_declare("inference", _INFERENCE)
_declare("grpc.health.v1", _HEALTH)
