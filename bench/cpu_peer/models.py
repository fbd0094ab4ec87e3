"""The same weights as a Hugging Face directory for Baton and as GGUF files for llama.cpp: random
ones, or those of a directory there is."""

import json
import pathlib
import shutil
import struct

import numpy as np

MATRIX, NORM, QUERY, KEY = "matrix", "norm", "query", "key"  # NORM: any vector
# GGUF's name. Mistral is Llama as long as no prompt is longer than its window.
ARCHITECTURES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "llama",
                 "Qwen2ForCausalLM": "qwen2"}
QUANT_GROUP = 32  # numbers of a row that llama.cpp quantizes together


def tensor_list(config):
    """(Hugging Face name, GGUF name, shape, kind) of every tensor."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    q_size = config["num_attention_heads"] * config["head_dim"]
    kv_size = config["num_key_value_heads"] * config["head_dim"]
    vocab = (config["vocab_size"], hidden)
    tensors = [("model.embed_tokens", "token_embd", vocab, MATRIX),
               ("model.norm", "output_norm", (hidden,), NORM)]
    if not config.get("tie_word_embeddings"):
        tensors.append(("lm_head", "output", vocab, MATRIX))
    for layer in range(config["num_hidden_layers"]):
        theirs = f"blk.{layer}."
        ours = f"model.layers.{layer}."
        tensors += [
            (ours + "input_layernorm", theirs + "attn_norm", (hidden,), NORM),
            (ours + "self_attn.q_proj", theirs + "attn_q", (q_size, hidden), QUERY),
            (ours + "self_attn.k_proj", theirs + "attn_k", (kv_size, hidden), KEY),
            (ours + "self_attn.v_proj", theirs + "attn_v", (kv_size, hidden), MATRIX),
            (ours + "self_attn.o_proj", theirs + "attn_output", (hidden, q_size), MATRIX),
            (ours + "post_attention_layernorm", theirs + "ffn_norm", (hidden,), NORM),
            (ours + "mlp.gate_proj", theirs + "ffn_gate", (inner, hidden), MATRIX),
            (ours + "mlp.up_proj", theirs + "ffn_up", (inner, hidden), MATRIX),
            (ours + "mlp.down_proj", theirs + "ffn_down", (hidden, inner), MATRIX)]
    tensors = [(ours + ".weight", theirs + ".weight", shape, kind)
               for ours, theirs, shape, kind in tensors]
    if config["architectures"] == ["Qwen2ForCausalLM"]:
        tensors += [(ours.replace(".weight", ".bias"), theirs.replace(".weight", ".bias"), shape[:1],
                     NORM) for ours, theirs, shape, _ in tensors
                    if ours.split(".")[-2] in ("q_proj", "k_proj", "v_proj")]
    return tensors


def to_bf16(values):
    """f32 to the bits of the nearest bf16."""
    bits = values.view(np.uint32)
    return ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def random_tensor(seed, shape, kind):
    """The bits of bf16 numbers that keep activations near unit scale."""
    values = np.random.default_rng(seed).random(shape, dtype=np.float32) * 2 - 1
    if kind == NORM:
        return to_bf16(1 + np.float32(0.1) * values)
    return to_bf16(values * np.float32((3 / shape[1]) ** 0.5))


def interleave_rotary(tensor, heads):
    """GGUF's order of query and key rows: the two numbers that RoPE rotates lie side by side."""
    rows, columns = tensor.shape
    halves = tensor.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows, columns)


def write_safetensors(path, tensors):
    header, end = {}, 0
    for name, tensor in tensors:
        header[name] = {"dtype": "BF16", "shape": tensor.shape,
                        "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in tensors:
            tensor.tofile(file)


def read_safetensors(directory):
    """{name: f32 array} of every file of the directory."""
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        data = path.read_bytes()
        start = 8 + struct.unpack_from("<Q", data)[0]
        for name, about in json.loads(data[8:start]).items():
            if name == "__metadata__":
                continue
            begin, end = (start + offset for offset in about["data_offsets"])
            kind = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}[about["dtype"]]
            values = np.frombuffer(data[begin:end], kind).reshape(about["shape"])
            tensors[name] = from_bf16(values) if about["dtype"] == "BF16" else values.astype(np.float32)
    return tensors


def write_tokenizer(path, vocab_size):
    """A byte-level tokenizer without merges; the tokens that are left are never made from text."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    vocab = {token: i for i, token in
             enumerate(alphabet + [f"<unused{i}>" for i in range(vocab_size - len(alphabet))])}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": False}
    path.write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []}}))


def write_gguf(path, config, tensors):
    import gguf
    architecture = ARCHITECTURES[config["architectures"][0]]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    if config.get("rope_scaling"):
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config["rope_scaling"]["factor"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    heads = {QUERY: config["num_attention_heads"], KEY: config["num_key_value_heads"]}
    if architecture != "llama":
        heads = {}  # in the order of Hugging Face
    for name, tensor, kind in tensors:
        if kind == NORM:
            writer.add_tensor(name, from_bf16(tensor))
            continue
        if kind in heads:
            tensor = interleave_rotary(tensor, heads[kind])
        writer.add_tensor(name, tensor.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_bytes_of_step(path):
    """Bytes of the weights that a step reads: all but the embedding table."""
    import gguf
    return sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors
               if tensor.name != "token_embd.weight")


def make_model(config_path, directory):
    """directory/hf and directory/bf16.gguf, made once for the same config and this file."""
    config = json.loads(config_path.read_text())
    stamp = config_path.read_text() + pathlib.Path(__file__).read_text()
    if (directory / "stamp").is_file() and (directory / "stamp").read_text() == stamp:
        return config
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "hf").mkdir(parents=True)
    made = [(ours, theirs, random_tensor(i, shape, kind), kind)
            for i, (ours, theirs, shape, kind) in enumerate(tensor_list(config))]
    shutil.copy(config_path, directory / "hf" / "config.json")
    write_tokenizer(directory / "hf" / "tokenizer.json", config["vocab_size"])
    write_safetensors(directory / "hf" / "model.safetensors",
                      [(ours, tensor) for ours, _, tensor, _ in made])
    write_gguf(directory / "bf16.gguf", config,
               [(theirs, tensor, kind) for _, theirs, tensor, kind in made])
    (directory / "stamp").write_text(stamp)
    return config


def read_config(directory):
    """config.json with the field names of transformers 4."""
    config = json.loads((directory / "config.json").read_text())
    rope = config.pop("rope_parameters", None) or config.get("rope_scaling") or {}
    config["rope_theta"] = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    config["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    return config


def why_not_convertible(config):
    """Why llama.cpp cannot be compared on such a model, or nothing."""
    architecture = config["architectures"][0]
    if architecture not in ARCHITECTURES:
        return f"no conversion of {architecture}"
    if config.get("attention_bias") or config.get("mlp_bias"):
        return "no conversion of Llama's biases"
    rows = {"hidden_size": config["hidden_size"], "intermediate_size": config["intermediate_size"],
            "heads * head_dim": config["num_attention_heads"] * config["head_dim"]}
    for name, size in rows.items():
        if size % QUANT_GROUP:
            return f"{name} is {size}, llama.cpp quantizes multiples of {QUANT_GROUP}"
    if config["rope_scaling"] and config["rope_scaling"]["rope_type"] != "linear":
        return f"no conversion of {config['rope_scaling']['rope_type']} RoPE"
    return ""


def convert_model(source, directory):
    """directory/hf and directory/bf16.gguf with the weights of `source`, rounded to bf16."""
    config = read_config(source)
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "hf").mkdir(parents=True)
    shutil.copy(source / "config.json", directory / "hf" / "config.json")
    values = read_safetensors(source)
    tensors = [(ours, theirs, to_bf16(values[ours]), kind)
               for ours, theirs, _, kind in tensor_list(config)]
    write_safetensors(directory / "hf" / "model.safetensors",
                      [(ours, tensor) for ours, _, tensor, _ in tensors])
    write_gguf(directory / "bf16.gguf", config,
               [(theirs, tensor, kind) for _, theirs, tensor, kind in tensors])


def quantized_gguf(directory, kind, threads):
    """The path of directory/KIND.gguf, made from bf16.gguf by llama.cpp's own quantizer."""
    path = directory / f"{kind}.gguf"
    if kind == "bf16" or path.is_file():
        return path
    import llama_cpp
    import llama_peer
    llama_peer.log_only_warnings()
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = threads
    params.ftype = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
                    "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}[kind]
    unfinished = path.with_suffix(".part")
    failed = llama_cpp.llama_model_quantize(str(directory / "bf16.gguf").encode(),
                                            str(unfinished).encode(), params)
    if failed:
        raise RuntimeError(f"llama.cpp cannot quantize {directory / 'bf16.gguf'} to {kind}")
    unfinished.rename(path)
    return path
